// mambaStep and stepHead: the fused kernels against the ordinary ops, for several sizes, weights and batches.
import { beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";
import { createRandom } from "../../core/random.ts";
import { sizeOf } from "../../core/shape.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { createPackedWeight } from "../linear/pack.ts";
import { quantizeWeightRow } from "../linear/quantize.ts";
import type { StepInputs } from "./index.ts";
import { isStepFused, isStepTiled, mambaStep, stepHead } from "./index.ts";

interface Sizes {
  batch: number;
  dModel: number;
  dInner: number;
  dState: number;
  dtRank: number;
  width: number;
  bias: boolean;
  convBias: boolean;
}

const USUAL: Sizes = {
  batch: 1,
  dModel: 64,
  dInner: 128,
  dState: 16,
  dtRank: 4,
  width: 4,
  bias: false,
  convBias: true,
};

interface StepCase extends Partial<Sizes> {
  name: string;
  format: "f32" | "f16" | "int8";
  activations?: "f32" | "f16";
  device?: string;
}

/** Few, for a software GPU takes long to compile each kernel. */
const CASES: readonly StepCase[] = [
  { name: "one row", format: "f32" },
  { name: "two rows in halves, biases, dState 8, dtRank 3", format: "f16", batch: 2, bias: true, dState: 8, dtRank: 3 },
  { name: "five rows, width 3, no bias of the convolution", format: "f32", batch: 5, width: 3, convBias: false },
  {
    name: "sizes that are no multiple of a team, dState 6, width 2",
    format: "f32",
    dState: 6,
    dtRank: 5,
    width: 2,
    dModel: 72,
    dInner: 152,
  },
  { name: "xProj in parts, two rows", format: "f16", batch: 2, dModel: 16, dInner: 1040 },
  { name: "int8", format: "int8", dtRank: 6 },
  { name: "ten rows", format: "f16", batch: 10 },
  { name: "ten rows", format: "int8", batch: 10 },
  { name: "ten rows, activations in halves", format: "f16", batch: 10, activations: "f16" },
  { name: "without subgroups", format: "f32", device: "plain" },
];

type Values = Record<string, { shape: number[]; data: Float32Array; isProduct: boolean }>;

function makeValues({ batch, dModel, dInner, dState, dtRank, width, bias, convBias }: Sizes, format: string): Values {
  const random = createRandom(3);
  const made: Values = {};
  const add = (name: string, shape: number[], scale = 1, isProduct = false, shift = 0): void => {
    const data = Float32Array.from({ length: sizeOf(shape) }, () => shift + scale * random.normal());
    made[name] = {
      shape,
      data: isProduct && format !== "f32" ? roundTo(format, data, shape.at(-1)!) : data,
      isProduct,
    };
  };
  add("hidden", [batch, 1, dModel], 2);
  add("norm", [dModel], 0.2, false, 1);
  add("inProj", [2 * dInner, dModel], dModel ** -0.5, true);
  if (bias) add("inProjBias", [2 * dInner], 0.3);
  add("conv", [dInner, width], 0.5);
  if (convBias) add("convBias", [dInner], 0.3);
  add("xProj", [dtRank + 2 * dState, dInner], dInner ** -0.5, true);
  add("dtProj", [dInner, dtRank], dtRank ** -0.5, true);
  add("dtBias", [dInner], 1, false, -2);
  add("A_log", [dInner, dState], 0.7);
  add("D", [dInner], 0.2, false, 1);
  add("outProj", [dModel, dInner], dInner ** -0.5, true);
  if (bias) add("outProjBias", [dModel], 0.3);
  add("convState", [batch, width - 1, dInner]);
  add("ssmState", [batch, dInner, dState]);
  return made;
}

/** As the numbers will be in f16 or int8. */
function roundTo(format: string, data: Float32Array, columns: number): Float32Array {
  if (format === "f16") return roundToHalf(data);
  const rounded = new Float32Array(data.length);
  for (let at = 0; at < data.length; at += columns) {
    const { values, scale } = quantizeWeightRow(data.subarray(at, at + columns));
    for (let i = 0; i < columns; i++) rounded[at + i] = values[i] * scale;
  }
  return rounded;
}

function roundToHalf(data: Float32Array): Float32Array {
  const halves = new Uint16Array(data.length);
  float32ToFloat16(data, halves);
  const rounded = new Float32Array(data.length);
  float16ToFloat32(halves, rounded);
  return rounded;
}

function makeInputs(backend: Backend, values: Values, format: "f32" | "f16" | "int8"): StepInputs {
  const entries = Object.entries(values).map(([name, { shape, data, isProduct }]) => {
    if (!isProduct || backend.name !== "webgpu") return [name, tensorFrom(backend, data, shape)];
    const weight = createPackedWeight(
      backend,
      shape,
      format === "int8" ? "int8" : "rows",
      format === "f16" ? "f16" : "f32",
    );
    weight.writeRows(0, data);
    return [name, weight.tensor];
  });
  return Object.fromEntries(entries) as StepInputs;
}

/** Two tokens one after another, so that the states of the first are the start of the second. */
async function run(
  backend: Backend,
  values: Values,
  format: "f32" | "f16" | "int8",
  activations: "f32" | "f16" = "f32",
): Promise<Record<string, Float32Array>> {
  const tensors = scope(() => {
    const inputs = makeInputs(backend, values, format);
    let { hidden } = inputs;
    for (let token = 0; token < 2; token++) hidden = mambaStep({ ...inputs, hidden }, { eps: 1e-5, activations }).y;
    const isFew = hidden.rows <= 8;
    const logits = isFew ? stepHead({ hidden, norm: inputs.norm, weight: inputs.inProj }, { eps: 1e-5 }).y : hidden;
    return { hidden, ...(isFew ? { logits } : {}), conv: inputs.convState, ssm: inputs.ssmState };
  });
  const read: Record<string, Float32Array> = {};
  for (const [name, tensor] of Object.entries(tensors as Record<string, Tensor>)) {
    read[name] = await tensor.read();
    tensor.dispose();
  }
  return read;
}

describe.skipIf(!hasGpu)("mambaStep", () => {
  let backends: Record<string, WebGpuBackend>;
  beforeAll(async () => {
    backends = {
      usual: await gpuBackend(),
      plain: await gpuBackend({ without: ["subgroups"] }),
    };
  });

  for (const { name, format, activations = "f32", device = "usual", ...sizes } of CASES)
    it(`${name}, ${format} = the ordinary ops`, async () => {
      const values = makeValues({ ...USUAL, ...sizes }, format);
      const expected = await run(reference, values, format);
      const actual = await run(backends[device], values, format, activations);
      const tolerance = activations === "f16" ? 3e-3 : 2e-6;
      for (const key in expected) expectClose(key, actual[key], expected[key], tolerance);
    });

  it("gives a row the same bits whatever else is in the batch", async () => {
    const values = makeValues({ ...USUAL, batch: 5, width: 3, convBias: false }, "f32");
    const all = await run(backends.usual, values, "f32");
    for (const name of ["hidden", "convState", "ssmState"]) {
      const { shape, data } = values[name];
      values[name] = { ...values[name], shape: [1, ...shape.slice(1)], data: data.slice(0, data.length / 5) };
    }
    const one = await run(backends.usual, values, "f32");
    for (const key in one) expect(all[key].slice(0, one[key].length)).toEqual(one[key]);
  });

  it("says when it is not for an input", () => {
    scope(() => {
      const { usual: webgpu } = backends;
      const hidden = (batch: number, length = 1, backend: Backend = webgpu): Tensor =>
        tensorFrom(backend, new Float32Array(batch * length * 8), [batch, length, 8]);
      const weight = (columns: number): Tensor => tensorFrom(webgpu, new Float32Array(8 * columns), [8, columns]);
      expect(isStepFused(hidden(8), [weight(8)])).toBe(true);
      expect(isStepFused(hidden(9), [weight(8)])).toBe(false);
      expect(isStepFused(hidden(1, 2), [weight(8)])).toBe(false);
      expect(isStepFused(hidden(1), [weight(12)])).toBe(false);
      expect(isStepTiled(hidden(9))).toBe(true);
      expect(isStepTiled(hidden(9, 2))).toBe(false);
      expect(isStepFused(hidden(1, 1, reference), [weight(8)])).toBe(false);
      expect(() => stepHead({ hidden: hidden(1), norm: weight(8), weight: weight(16) }, { eps: 1 })).toThrow(
        /stepHead/,
      );
    });
  });
});
