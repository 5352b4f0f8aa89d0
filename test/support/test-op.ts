// testOp: one helper for every op. WASM against the reference, the reference's gradients against central differences.
import { beforeAll, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { DType } from "../../src/core/dtype.ts";
import { isReal } from "../../src/core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../src/core/half.ts";
import { createRandom } from "../../src/core/random.ts";
import type { Random } from "../../src/core/random.ts";
import { sizeOf } from "../../src/core/shape.ts";
import type { Op, Tensors } from "../../src/tensor/define-op.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import { gpuBackend, hasGpu, reference, wasmBackend } from "./backends.ts";
import { expectClose } from "./compare.ts";

/** How to make an input: its shape, and each element from a random source (default: a normal one). */
export interface InputSpec {
  shape: readonly number[];
  dtype?: DType;
  element?: (random: Random, index: number) => number;
  /** Make it a view of columns of a tensor that is wider by this many columns. */
  extraColumns?: number;
}

export interface OpCase<Options> {
  name: string;
  inputs: Record<string, InputSpec>;
  options: Options;
  /** Outputs that receive no gradient in this case. */
  unused?: readonly string[];
}

export interface OpTolerances {
  /** Of each output's largest magnitude, on wasm and webgpu. */
  forward?: number;
  /** Of each gradient's largest magnitude, on wasm and webgpu. */
  gradient?: number;
  /** Of each gradient's largest magnitude: the reference against central differences in float64. */
  differences?: number;
}

type Values = Record<string, number[]>;
interface Run {
  outputs: Values;
  grads: Values;
}

const BUILDS = ["simd", "relaxed"] as const;
/** Elements of an input whose derivative is checked by central differences. */
const PROBES = 24;

export function testOp<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  cases: readonly OpCase<Options>[],
  { forward = 1e-5, gradient = 1e-4, differences = 1e-7 }: OpTolerances = {},
): void {
  describe(op.definition.name, () => {
    const backends = new Map<string, Backend>();
    beforeAll(async () => {
      for (const build of BUILDS) backends.set(build, await wasmBackend(build));
      if (hasGpu) backends.set("webgpu", await gpuBackend());
    });
    for (const opCase of cases) {
      const values = makeValues(opCase);
      for (const device of [...BUILDS, "webgpu"])
        it.skipIf(device === "webgpu" && !hasGpu)(`${opCase.name}: ${device} = reference`, async () => {
          const expected = await runOp(op, opCase, values, reference);
          const actual = await runOp(op, opCase, values, backends.get(device)!);
          for (const name in expected.outputs) expectClose(name, actual.outputs[name], expected.outputs[name], forward);
          for (const name in expected.grads)
            expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], gradient);
        });
      if (op.definition.gradient)
        it(`${opCase.name}: reference gradient = central differences`, () =>
          checkDifferences(op, opCase, values, differences));
    }
  });
}

/** The elements of a case's inputs, rounded to their dtype. */
export function makeValues<Options>(opCase: OpCase<Options>): Values {
  const random = createRandom(1);
  const values: Values = {};
  for (const [name, { shape, dtype, element = (r: Random) => r.normal() }] of Object.entries(opCase.inputs)) {
    const numbers = Float32Array.from({ length: sizeOf(shape) }, (_, i) => element(random, i));
    values[name] = Array.from(dtype === "f16" ? roundToHalf(numbers) : numbers);
  }
  return values;
}

function roundToHalf(numbers: Float32Array): Float32Array {
  const halves = new Uint16Array(numbers.length);
  float32ToFloat16(numbers, halves);
  const rounded = new Float32Array(numbers.length);
  float16ToFloat32(halves, rounded);
  return rounded;
}

function makeInput(backend: Backend, spec: InputSpec, data: number[]): Tensor {
  const { shape, dtype = "f32", extraColumns } = spec;
  if (extraColumns === undefined) return tensorFrom(backend, data, shape, dtype);
  const columns = shape.at(-1)!;
  const wide = emptyTensor(backend, [...shape.slice(0, -1), columns + extraColumns], dtype);
  wide.write(new Float64Array(wide.size).fill(isReal(dtype) ? 0.5 : 0));
  const view = wide.columnsOf(extraColumns >> 1, (extraColumns >> 1) + columns);
  view.write(Float64Array.from(data));
  return view;
}

function seedFor(name: string, size: number): number[] {
  const random = createRandom([...name].reduce((sum, c) => sum + c.charCodeAt(0), 7));
  return Array.from({ length: size }, () => Math.fround(random.normal()));
}

/** Runs forward and backward; each gradient starts from zero. */
export async function runOp<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  opCase: OpCase<Options>,
  values: Values,
  backend: Backend,
  withGradients = true,
): Promise<Run> {
  const { outputs, grads } = scope(() => computeOp(op, opCase, values, backend, withGradients));
  const read = async (tensors: Record<string, Tensor>): Promise<Values> => {
    const entries = Object.entries(tensors).map(async ([name, tensor]) => {
      const data = Array.from(await tensor.readNative());
      (tensor.base ?? tensor).dispose();
      return [name, data] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  };
  return { outputs: await read(outputs), grads: await read(grads) };
}

/** The tensors of {@link runOp}, still on the device. */
function computeOp<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  opCase: OpCase<Options>,
  values: Values,
  backend: Backend,
  withGradients: boolean,
): { outputs: Record<string, Tensor>; grads: Record<string, Tensor> } {
  const result: ReturnType<typeof computeOp> = { outputs: {}, grads: {} };
  const inputs: Record<string, Tensor> = {};
  for (const name in values) {
    const input = makeInput(backend, opCase.inputs[name], values[name]);
    input.requiresGrad = op.definition.gradient?.of.includes(name) ?? false;
    inputs[name] = input;
  }
  const tape = new Tape();
  const outputs = tape.record(() => op(inputs as unknown as I, opCase.options));
  for (const [name, output] of Object.entries(outputs)) {
    if (!output) continue;
    result.outputs[name] = output;
    if (!withGradients || !op.definition.gradient || !isReal(output.dtype) || opCase.unused?.includes(name)) continue;
    tape.seed(output, tensorFrom(backend, seedFor(name, output.size), output.shape, output.dtype));
  }
  if (!withGradients || !op.definition.gradient) return result;
  tape.run();
  for (const name of op.definition.gradient.of) {
    const input = inputs[name];
    if (input) result.grads[name] = tape.gradOf(input) ?? zeros(backend, input.shape, input.dtype);
  }
  return result;
}

async function checkDifferences<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  opCase: OpCase<Options>,
  values: Values,
  tolerance: number,
): Promise<void> {
  const { grads } = await runOp(op, opCase, values, reference);
  const random = createRandom(2);
  const objective = async (changed: Values): Promise<number> => {
    const { outputs } = await runOp(op, opCase, changed, reference, false);
    let sum = 0;
    for (const name in outputs) {
      if (opCase.unused?.includes(name)) continue;
      const seed = seedFor(name, outputs[name].length);
      outputs[name].forEach((value, i) => (sum += value * seed[i]));
    }
    return sum;
  };
  for (const name in grads) {
    const grad = grads[name];
    const largest = grad.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
    const count = Math.min(PROBES, grad.length);
    for (let probe = 0; probe < count; probe++) {
      const index = grad.length <= PROBES ? probe : random.integer(grad.length);
      const numeric = await centralDifference(
        (value) => objective({ ...values, [name]: values[name].with(index, value) }),
        values[name][index],
      );
      expect(
        Math.abs(numeric - grad[index]) / largest,
        `grad.${name}[${index}] = ${grad[index]}, by differences ${numeric}`,
      ).toBeLessThan(tolerance);
    }
  }
}

/** Fourth-order central difference: error of order step^4. */
async function centralDifference(f: (value: number) => Promise<number>, at: number): Promise<number> {
  const step = 1e-3 * Math.max(1, Math.abs(at));
  const near = (await f(at + step)) - (await f(at - step));
  const far = (await f(at + 2 * step)) - (await f(at - 2 * step));
  return (8 * near - far) / (12 * step);
}
