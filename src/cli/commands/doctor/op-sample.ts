// A sample of an op: small random inputs, and how to get its outputs and gradients on a device.
import type { Backend } from "../../../backends/backend.ts";
import type { DType } from "../../../core/dtype.ts";
import { isReal } from "../../../core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../../core/half.ts";
import type { Random } from "../../../core/random.ts";
import { createRandom } from "../../../core/random.ts";
import { sizeOf } from "../../../core/shape.ts";
import type { Op, Tensors } from "../../../tensor/define-op.ts";
import { scope } from "../../../tensor/scope.ts";
import { Tape } from "../../../tensor/tape.ts";
import { Tensor, tensorFrom } from "../../../tensor/tensor.ts";

export interface SampleInput {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  /** Whether it is float16 when the sample runs in half precision: activations are, parameters and states are not. */
  readonly isActivation?: boolean;
  /** Default: standard normal. */
  readonly element?: (random: Random, index: number) => number;
}

/** Results by name. */
export type Numbers = Record<string, ArrayLike<number>>;

/** How activations are held: f32 everywhere; f16 on a GPU that has it. */
export type Precision = "f32" | "f16";

export interface OpSample {
  readonly name: string;
  /** Whether it has a half-precision variant. */
  readonly hasHalf: boolean;
  /** Runs on a device; always with the same inputs. No gradients: the op has none. */
  run(backend: Backend, precision: Precision): Promise<{ outputs: Numbers; gradients?: Numbers }>;
}

/** What a sample computes, still on the device. */
type Tensorial = Readonly<Record<string, Tensor | number | Promise<number>>>;

type Inputs = Readonly<Record<string, SampleInput>>;

const SEED_OF_GRADIENTS = 77;

/** A sample of an op that a tape can follow. */
export function sampleOp<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  inputs: { readonly [K in keyof I]?: SampleInput },
  options: Options,
  name: string = op.definition.name,
): OpSample {
  const specs = inputs as Inputs;
  const differentiable: readonly string[] = op.definition.gradient?.of ?? [];
  const compute = (
    backend: Backend,
    precision: Precision,
  ): { outputs: Record<string, Tensor>; gradients: Record<string, Tensor> } => {
    const tensors = makeInputs(specs, backend, precision);
    for (const input of differentiable) if (tensors[input]) tensors[input].requiresGrad = true;
    const tape = new Tape();
    const made = tape.record(() => op(tensors as unknown as I, options));
    const outputs: Record<string, Tensor> = {};
    for (const [output, tensor] of Object.entries(made)) if (tensor) outputs[output] = tensor;
    if (!op.definition.gradient) return { outputs, gradients: {} };
    for (const tensor of Object.values(outputs))
      if (isReal(tensor.dtype))
        tape.seed(tensor, makeInput({ shape: tensor.shape, dtype: tensor.dtype }, SEED_OF_GRADIENTS, backend));
    tape.run();
    const gradients: Record<string, Tensor> = {};
    for (const input of differentiable) {
      const grad = tensors[input] && tape.gradOf(tensors[input]);
      if (grad) gradients[input] = grad;
    }
    return { outputs, gradients };
  };
  return {
    name,
    hasHalf: hasActivations(specs),
    async run(backend, precision) {
      const { outputs, gradients } = scope(() => compute(backend, precision));
      const read = { outputs: await readAll(outputs), gradients: await readAll(gradients) };
      return op.definition.gradient ? read : { outputs: read.outputs };
    },
  };
}

/** A sample of something else: `run` gets the inputs as tensors, and returns tensors or numbers. */
export function sampleFunction(
  name: string,
  inputs: Inputs,
  run: (tensors: Record<string, Tensor>, backend: Backend) => Tensorial,
): OpSample {
  return {
    name,
    hasHalf: hasActivations(inputs),
    async run(backend, precision) {
      return { outputs: await readAll(scope(() => run(makeInputs(inputs, backend, precision), backend))) };
    },
  };
}

/** The elements of a sample's input, always the same, rounded to what its dtype holds so that all devices begin alike. */
export function sampleValues({ shape, dtype = "f32", element }: SampleInput, seed: number): Float32Array {
  const random = createRandom(seed);
  const values = Float32Array.from({ length: sizeOf(shape) }, (_, i) => element?.(random, i) ?? random.normal());
  return dtype === "f16" ? roundToHalf(values) : values;
}

function roundToHalf(values: Float32Array): Float32Array {
  const halves = new Uint16Array(values.length);
  float32ToFloat16(values, halves);
  float16ToFloat32(halves, values);
  return values;
}

function hasActivations(inputs: Inputs): boolean {
  return Object.values(inputs).some(({ isActivation }) => isActivation);
}

function makeInputs(specs: Inputs, backend: Backend, precision: Precision): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(specs).map(([name, spec], i) => [
      name,
      makeInput(spec.isActivation ? { ...spec, dtype: precision } : spec, i, backend),
    ]),
  );
}

function makeInput(spec: SampleInput, seed: number, backend: Backend): Tensor {
  return tensorFrom(backend, sampleValues(spec, seed), spec.shape, spec.dtype);
}

/** Reads what was computed, and gives its memory back. */
async function readAll(results: Tensorial): Promise<Numbers> {
  const read: Numbers = {};
  for (const [name, result] of Object.entries(results)) {
    if (!(result instanceof Tensor)) {
      read[name] = [await result];
      continue;
    }
    read[name] = await result.readNative();
    (result.base ?? result).dispose();
  }
  return read;
}
