// A sample of an op: small random inputs, and how to get its outputs and gradients on a device.
import type { Backend } from "../../../backends/backend.ts";
import type { DType } from "../../../core/dtype.ts";
import type { Random } from "../../../core/random.ts";
import { createRandom } from "../../../core/random.ts";
import { sizeOf } from "../../../core/shape.ts";
import type { Op, Tensors } from "../../../tensor/define-op.ts";
import { scope } from "../../../tensor/scope.ts";
import { Tape } from "../../../tensor/tape.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import { tensorFrom } from "../../../tensor/tensor.ts";

export interface SampleInput {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  /** Default: standard normal. */
  readonly element?: (random: Random, index: number) => number;
}

/** Results by name. */
export type Numbers = Record<string, ArrayLike<number>>;

export interface OpSample {
  readonly name: string;
  /** Runs on a device; always with the same inputs. No gradients: the op has none. */
  run(backend: Backend): { outputs: Numbers; gradients?: Numbers };
}

/** A sample of an op that a tape can follow. */
export function sampleOp<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  inputs: { readonly [K in keyof I]?: SampleInput },
  options: Options,
  name: string = op.definition.name,
): OpSample {
  const differentiable: readonly string[] = op.definition.gradient?.of ?? [];
  return {
    name,
    run: (backend) =>
      scope(() => {
        const tensors = makeInputs(inputs as Readonly<Record<string, SampleInput>>, backend);
        for (const input of differentiable) if (tensors[input]) tensors[input].requiresGrad = true;
        const tape = new Tape();
        const made = tape.record(() => op(tensors as unknown as I, options));
        const outputs: Numbers = {};
        for (const [output, tensor] of Object.entries(made)) {
          if (!tensor) continue;
          outputs[output] = tensor.readNow();
          if (tensor.dtype === "f32") tape.seed(tensor, makeInput({ shape: tensor.shape }, 77, backend));
        }
        if (!op.definition.gradient) return { outputs };
        tape.run();
        const gradients: Numbers = {};
        for (const input of differentiable) {
          const grad = tensors[input] && tape.gradOf(tensors[input]);
          if (grad) gradients[input] = grad.readNow();
        }
        return { outputs, gradients };
      }),
  };
}

/** A sample of something else: `run` gets the inputs as tensors and returns numbers. */
export function sampleFunction(
  name: string,
  inputs: Readonly<Record<string, SampleInput>>,
  run: (tensors: Record<string, Tensor>) => Numbers,
): OpSample {
  return { name, run: (backend) => scope(() => ({ outputs: run(makeInputs(inputs, backend)) })) };
}

function makeInputs(specs: Readonly<Record<string, SampleInput>>, backend: Backend): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(specs).map(([name, spec], i) => [name, makeInput(spec, i, backend)]));
}

function makeInput(spec: SampleInput, seed: number, backend: Backend): Tensor {
  const { shape, dtype = "f32", element = (random: Random): number => random.normal() } = spec;
  const random = createRandom(seed);
  // Rounded to float32, so that all devices begin with the same numbers.
  const data = Array.from({ length: sizeOf(shape) }, (_, i) => Math.fround(element(random, i)));
  return tensorFrom(backend, data, shape, dtype);
}
