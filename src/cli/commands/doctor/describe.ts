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
  const tests = builds
    .filter(({ ops }) => ops.length > 0)
    .flatMap(({ build, ops }) => describeOps(`Self-test of the ${build} build: worst errors`, ops));
  return ["", bold("wasm"), indent(formatTable(rows)), ...tests];
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
  const tests = paths.flatMap((path) => describeOps(pathTitle(path), path.ops));
  return ["", bold("webgpu"), indent(formatTable(rows)), ...tests];
}

function sizes([least, most]: readonly [number, number]): string {
  return least === most ? `of ${most}` : `of ${least} to ${most}`;
}

function shapeText({ M, N, K, componentType, resultComponentType }: WebGpuReport["matrixShapes"][number]): string {
  return `${componentType} to ${resultComponentType} ${M}×${N}×${K}`;
}

function pathTitle({ path, precision }: PathReport): string {
  const how = path === "full" ? "all features" : "portable kernels";
  return `Self-test, ${how}, ${precision === "f16" ? "float16 activations" : "float32"}: worst errors`;
}

function describeOps(title: string, ops: readonly OpReport[]): string[] {
  const error = (value: number | null): string => (value === null ? "–" : value.toExponential(1));
  const rows = ops.map(({ op, forwardError, gradientError }) => [op, error(forwardError), error(gradientError)]);
  const [head, ...lines] = formatTable([["op", "forward", "gradient"], ...rows], [1, 2]).split("\n");
  const marked = ops.map(({ isGood, problem }, i) => `${lines[i]}  ${mark(isGood)}${problem ? ` ${problem}` : ""}`);
  return ["", `  ${bold(title)}`, indent([head, ...marked].join("\n"))];
}

function indent(text: string): string {
  return text.replace(/^/gm, "  ");
}
