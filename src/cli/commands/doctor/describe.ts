// A diagnosis as text.
import { formatBytes, formatTable, significant } from "../../format.ts";
import { bold, mark } from "../../output.ts";
import type { WasmReport } from "./examine-wasm.ts";
import type { Diagnosis } from "./examine.ts";
import type { Absent, PathReport, WebGpuReport } from "./examine-webgpu.ts";
import type { OpReport } from "./self-test.ts";

export function describe({ version, machine, auto, wasm, webgpu, leftOut, isGood }: Diagnosis): string {
  const about = [
    ["mamba.ts", version],
    ["Node", `${machine.node}, ${machine.platform}`],
    ["processor", `${machine.cpu}, ${machine.cores} cores`],
    ["memory", formatBytes(machine.memoryBytes)],
  ];
  if (auto) about.push(["--device auto", auto]);
  return [
    formatTable(about),
    ...(wasm ? describeWasm(wasm) : []),
    ...(webgpu ? describeWebGpu(webgpu) : []),
    "",
    bold("Left out"),
    ...leftOut.map(({ what, why }) => `  ${what}: ${why}`),
    "",
    isGood ? "All is well.\n" : "Something is wrong: see above.\n",
  ].join("\n");
}

function describeWasm({ threads, hasRelaxedSimd, builds, dispatchMicroseconds: dispatch }: WasmReport): string[] {
  const rows = [
    ["threads", String(threads)],
    ["relaxed SIMD", hasRelaxedSimd ? "yes" : "no"],
    ...builds.map(({ build, isUsed, reason }) => [`${build} build`, isUsed ? "used" : `not used: ${reason}`]),
  ];
  if (dispatch)
    rows.push([
      "kernel call",
      `${significant(dispatch.serial)} µs on one thread, ${significant(dispatch.shared)} µs shared by ${threads}`,
    ]);
  const tests = builds.filter(({ ops }) => ops.length > 0).map(({ build, ops }) => ({ name: build, ops }));
  return ["", bold("wasm"), indent(formatTable(rows)), ...describeTests(tests)];
}

function describeWebGpu(report: WebGpuReport | Absent): string[] {
  if ("problem" in report) return ["", bold("webgpu"), `  not here: ${report.problem.replace(/^webgpu: /, "")}`];
  const { adapter, features, subgroupSize, matrixShapes, limits, speed, paths } = report;
  const name = [adapter.vendor, adapter.architecture].filter(Boolean).join(" ");
  const { dispatchMicroseconds: dispatch } = speed;
  const rows = [
    ["adapter", `${[name, adapter.description].filter(Boolean).join(", ")}${adapter.isSoftware ? " (software)" : ""}`],
    ["float16", features["shader-f16"] ? "yes" : "no"],
    ["subgroups", subgroupSize ? sizes(subgroupSize) : "no"],
    ["subgroup matrices", matrixShapes.length > 0 ? matrixShapes.map(shapeText).join("; ") : "no"],
    ["time stamps", features["timestamp-query"] ? "yes" : "no"],
    [
      "limits",
      `buffers of ${formatBytes(limits.bufferBytes)}, of which a kernel sees ${formatBytes(limits.bindingBytes)}; ` +
        `${limits.workgroupThreads} threads and ${formatBytes(limits.workgroupBytes)} a workgroup, ${limits.storageBuffers} buffers a kernel`,
    ],
    [
      "kernel",
      `${significant(dispatch.wall)} µs${dispatch.gpu === null ? "" : ` as seen from here, ${significant(dispatch.gpu)} µs on the GPU`}`,
    ],
    ["round trip", `${significant(speed.roundTripMicroseconds)} µs`],
    ["copy", `${significant(speed.copyGigabytesPerSecond)} GB/s, read and written`],
  ];
  const tests = paths.map((path) => ({ name: pathName(path), ops: path.ops }));
  return ["", bold("webgpu"), indent(formatTable(rows)), ...describeTests(tests)];
}

function sizes([least, most]: readonly [number, number]): string {
  return least === most ? `of ${most}` : `of ${least} to ${most}`;
}

function shapeText({ M, N, K, componentType, resultComponentType }: WebGpuReport["matrixShapes"][number]): string {
  return `${componentType} to ${resultComponentType} ${M}×${N}×${K}`;
}

function pathName({ path, precision }: PathReport): string {
  return path === "full" ? precision : `portable ${precision}`;
}

/** One table: a row an op, and of each test the worst error forward and of the gradients. Problems stand below. */
function describeTests(tests: readonly { readonly name: string; readonly ops: readonly OpReport[] }[]): string[] {
  const names = [...new Set(tests.flatMap(({ ops }) => ops.map(({ op }) => op)))];
  const head = ["op", ...tests.flatMap(({ name }) => [name, "gradient"])];
  const rows = names.map((name) => {
    const reports = tests.map(({ ops }) => ops.find(({ op }) => op === name));
    return {
      cells: [
        name,
        ...reports.flatMap((report) => [errorText(report?.forwardError), errorText(report?.gradientError)]),
      ],
      isGood: reports.every((report) => report?.isGood ?? true),
    };
  });
  const numbers = head.map((_, i) => i).slice(1);
  const [first, ...lines] = formatTable([head, ...rows.map(({ cells }) => cells)], numbers).split("\n");
  const problems = tests.flatMap(({ name, ops }) =>
    ops.flatMap(({ op, problem }) => (problem === undefined ? [] : [`${op}, ${name}: ${problem}`])),
  );
  return [
    "",
    bold("  Self-test: worst errors"),
    indent([first, ...lines.map((line, i) => `${line}  ${mark(rows[i].isGood)}`), ...problems].join("\n")),
  ];
}

function errorText(error: number | null | undefined): string {
  return typeof error === "number" ? error.toExponential(1) : "–";
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}
