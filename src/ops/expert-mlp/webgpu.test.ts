// expertMlp on a GPU by each kind of kernels, whatever this device would choose, against the reference.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, onGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { ExpertMlpInputs } from "./index.ts";
import { expertMlp } from "./index.ts";
import type { TileChoice } from "./webgpu-products.ts";
import { backward, forwardByTiles, makeSaved } from "./webgpu.ts";

type Kind = "f32" | "f16";
type Values = { [K in keyof ExpertMlpInputs | "gradY"]: number[] };
type Read = Record<string, number[]>;

const [EXPERTS, TOP_K] = [4, 2];
const NAMES = ["x", "gates", "upGate", "down"] as const;

interface Sizes {
  tokens: number;
  dModel: number;
  dInner: number;
}

function valuesOf({ tokens, dModel, dInner }: Sizes): Values {
  const random = createRandom(5);
  // Numbers that float16 holds exactly.
  const numbers = (count: number, scale = 1): number[] =>
    Array.from({ length: count }, () => (Math.round(16 * random.normal()) / 16) * scale);
  return {
    x: numbers(tokens * dModel),
    gates: numbers(tokens * TOP_K),
    // Nobody chooses the last expert.
    choices: Array.from({ length: tokens * TOP_K }, () => random.integer(EXPERTS - 1)),
    upGate: numbers(EXPERTS * 2 * dInner * dModel, 1 / 8),
    down: numbers(EXPERTS * dModel * dInner, 1 / 8),
    gradY: numbers(tokens * dModel),
  };
}

function inputsOf(backend: Backend, values: Values, { tokens, dModel, dInner }: Sizes, kind: Kind): ExpertMlpInputs {
  return {
    x: tensorFrom(backend, values.x, [tokens, dModel], kind),
    gates: tensorFrom(backend, values.gates, [tokens, TOP_K]),
    choices: tensorFrom(backend, values.choices, [tokens, TOP_K], "i32"),
    upGate: tensorFrom(backend, values.upGate, [EXPERTS, 2 * dInner, dModel]),
    down: tensorFrom(backend, values.down, [EXPERTS, dModel, dInner]),
  };
}

async function readAll(tensors: Readonly<Record<string, Tensor>>): Promise<Read> {
  const entries = Object.entries(tensors).map(async ([name, tensor]) => [name, Array.from(await tensor.readNative())]);
  return Object.fromEntries(await Promise.all(entries)) as Read;
}

const timesOf = ({ kind }: TileChoice): number => (kind === "direct" || kind === "matrices" ? 2 : 1);

async function expectedOf(values: Values, sizes: Sizes): Promise<Read> {
  const inputs = inputsOf(reference, values, sizes, "f32");
  for (const name of NAMES) inputs[name].requiresGrad = true;
  const tape = new Tape();
  const { y } = tape.record(() => expertMlp(inputs, {}));
  tape.backward(y, tensorFrom(reference, values.gradY, y.shape));
  return readAll({ y, ...Object.fromEntries(NAMES.map((name) => [name, tape.gradOf(inputs[name])!])) });
}

/** The gradients are written, and where products compile in no time also added to, which doubles them. */
async function actualOf(
  backend: WebGpuBackend,
  values: Values,
  { sizes, kind, choice }: { sizes: Sizes; kind: Kind; choice: TileChoice },
): Promise<Read> {
  const inputs = inputsOf(backend, values, sizes, kind);
  const y = zeros(backend, inputs.x.shape, kind);
  const saved = makeSaved(inputs, choice);
  forwardByTiles(backend, { inputs, outputs: { y }, saved }, choice);
  const gradY = tensorFrom(backend, values.gradY, y.shape, kind);
  const grads = Object.fromEntries(
    NAMES.map((name) => [name, zeros(backend, inputs[name].shape, inputs[name].dtype)]),
  ) as Record<(typeof NAMES)[number], Tensor>;
  for (let time = 0; time < timesOf(choice); time++)
    backward({ inputs, saved, gradOutputs: { y: gradY }, gradInputs: grads }, backend, choice);
  return readAll({ y, ...grads });
}

describe.skipIf(!hasGpu)(onGpu("expertMlp by every kind of kernels"), () => {
  const wide = { tokens: 45, dModel: 24, dInner: 40 };
  const odd = { tokens: 9, dModel: 5, dInner: 7 };
  const runs: [name: string, sizes: Sizes, kind: Kind, choice: TileChoice][] = [
    ["direct", wide, "f16", { kind: "direct", tileRows: 128 }],
    ["large tiles, float16", wide, "f16", { kind: "tiles", tileRows: 128 }],
    ["tiles, odd widths", odd, "f32", { kind: "tiles", tileRows: 32 }],
    ["large matrices", wide, "f16", { kind: "emulated", tileRows: 128 }],
  ];
  // Software adapters take up to a minute to compile these.
  if (process.env.MAMBA_TEST_GPU !== undefined)
    runs.push(
      ["small tiles", wide, "f32", { kind: "tiles", tileRows: 32 }],
      ["small matrices, emulated", wide, "f16", { kind: "emulated", tileRows: 32 }],
      ["matrices of the device", wide, "f16", { kind: "matrices", tileRows: 128 }],
      ["small matrices of the device", wide, "f16", { kind: "matrices", tileRows: 32 }],
      ["matrices of the device, odd widths", odd, "f16", { kind: "matrices", tileRows: 32 }],
    );
  it.each(runs)("%s", async (_, sizes, kind, choice) => {
    const backend = await gpuBackend();
    if (kind === "f16" && !backend.has("shader-f16")) return;
    if (choice.kind === "matrices" && backend.about.matrixShapes.length === 0) return;
    const values = valuesOf(sizes);
    const expected = await expectedOf(values, sizes);
    const actual = await actualOf(backend, values, { sizes, kind, choice });
    // As testOpOnGpu.
    const [forward, gradient] = kind === "f16" ? [3e-3, 5e-3] : [1e-5, 1e-4];
    expectClose("y", actual.y, expected.y, forward);
    for (const name of NAMES) {
      const once = actual[name].map((value) => value / timesOf(choice));
      expectClose(`grad.${name}`, once, expected[name], gradient);
    }
  });

  it.each([
    ["float32", wide, "f32", []],
    ["float16", wide, "f16", []],
    ["float16 without subgroups, odd widths", odd, "f16", ["subgroups"]],
  ] as const)("a few tokens, %s", async (_, sizes, kind, without) => {
    const backend = await gpuBackend({ without });
    if (kind === "f16" && !backend.has("shader-f16")) return;
    const few = { ...sizes, tokens: 3 };
    const values = valuesOf(few);
    const { y } = expertMlp(inputsOf(backend, values, few, kind), {});
    const expected = await expectedOf(values, few);
    expectClose("y", Array.from(await y.readNative()), expected.y, kind === "f16" ? 3e-3 : 1e-5);
  });

  it.each([3, 45])("%i tokens, all in float16, weights too", async (tokens) => {
    const backend = await gpuBackend();
    if (!backend.has("shader-f16")) return;
    const sizes = { ...wide, tokens };
    const values = valuesOf(sizes);
    const inputs = inputsOf(backend, values, sizes, "f16");
    const [upGate, down] = (["upGate", "down"] as const).map((name) =>
      tensorFrom(backend, values[name], inputs[name].shape, "f16"),
    );
    const { y } = expertMlp({ ...inputs, upGate, down }, {});
    const expected = await expectedOf(values, sizes);
    expectClose("y", Array.from(await y.readNative()), expected.y, 3e-3);
  });

  it("gives the same bits every time", async () => {
    const backend = await gpuBackend();
    const choice: TileChoice = { kind: "direct", tileRows: 32 };
    const run = (): Promise<Read> => actualOf(backend, valuesOf(wide), { sizes: wide, kind: "f32", choice });
    expect(await run()).toEqual(await run());
  });
});
