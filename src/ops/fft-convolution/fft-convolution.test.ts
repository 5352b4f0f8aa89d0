// fftConvolution against the sum that defines it, the reference and central differences; and long sequences.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { InputSpec } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { fft } from "./fft.ts";
import { fftConvolution } from "./index.ts";
import { convolve, convolveDirectly, correlate } from "./reference.ts";

const signals = (shape: [number, number, number], extraColumns?: number): Record<string, InputSpec> => {
  const wide = extraColumns === undefined ? {} : { extraColumns };
  return { x: { shape, ...wide }, kernel: { shape: shape.slice(1), ...wide }, D: { shape: shape.slice(2) } };
};
const withoutD = (inputs: Record<string, InputSpec>): Record<string, InputSpec> => ({
  x: inputs.x,
  kernel: inputs.kernel,
});

testOp(
  fftConvolution,
  [
    { name: "one step", inputs: signals([2, 1, 3]), options: {} },
    { name: "two steps", inputs: signals([1, 2, 1]), options: {} },
    { name: "three steps, without D", inputs: withoutD(signals([2, 3, 5])), options: {} },
    { name: "a power of two", inputs: signals([3, 32, 4]), options: {} },
    { name: "one more, views of columns", inputs: signals([2, 33, 6], 3), options: {} },
    { name: "sums by the transform", inputs: withoutD(signals([2, 200, 9])), options: {} },
  ],
  { gradient: 1e-5 },
);

testOpOnGpu(
  fftConvolution,
  [
    { name: "one block", inputs: signals([3, 17, 5]), options: {} },
    { name: "several blocks, views of columns", inputs: signals([2, 70, 37], 2), options: {} },
  ],
  { halves: ["x"], bindingBytes: 1 << 14 },
);

const random = createRandom(7);
const normals = (count: number): Float64Array =>
  Float64Array.from({ length: count }, () => Math.fround(random.normal()));

describe("in float64", () => {
  it("the transform is the sum that defines it", () => {
    for (const size of [1, 2, 8, 64]) {
      const [x, y] = [normals(size), normals(size)];
      const [re, im] = [x.slice(), y.slice()];
      fft(re, im, -1);
      for (let k = 0; k < size; k++) {
        let sum = 0;
        for (let n = 0; n < size; n++) {
          const angle = (-2 * Math.PI * k * n) / size;
          sum += x[n] * Math.cos(angle) - y[n] * Math.sin(angle);
        }
        expect(re[k]).toBeCloseTo(sum, 11);
      }
    }
  });

  it.each([129, 256, 1000])("convolution and correlation of %i steps are the direct sums", (length) => {
    const [a, b] = [normals(length), normals(length)];
    expectClose("convolve", convolve(a, b), convolveDirectly(a, b), 1e-12);
    expectClose("correlate", correlate(a, b), convolveDirectly(a.toReversed(), b).toReversed(), 1e-12);
  });
});

describe("of long sequences", () => {
  const run = async (backend: Backend, length: number): Promise<Record<string, ArrayLike<number>>> => {
    const own = createRandom(length);
    const make = (shape: number[], scale: (i: number) => number = () => 1): Tensor =>
      tensorFrom(
        backend,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => own.normal() * scale(i)),
        shape,
      );
    const [batch, channels] = [1, 2];
    // A kernel that decays, as those of models do.
    const kernel = make([length, channels], (i) => Math.exp((-20 * i) / (length * channels)));
    const inputs = { x: make([batch, length, channels]), kernel, D: make([channels]) };
    for (const input of Object.values(inputs)) input.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => fftConvolution(inputs, {}));
    tape.backward(y, make([batch, length, channels]));
    const result: Record<string, ArrayLike<number>> = { y: await y.readNative() };
    for (const [name, input] of Object.entries(inputs)) result[name] = await tape.gradOf(input)!.readNative();
    return result;
  };

  // 30000: scratch memory on the CPU; 100000: beyond it. On a GPU 1000 in one pass, the others in three.
  it.each([
    ["simd", 30000],
    ["relaxed", 100000],
    ["webgpu", 1000],
    ["webgpu", 5000],
    ["webgpu", 140000],
  ] as const)("%s, %i steps", async (device, length) => {
    if (device === "webgpu" && !hasGpu) return;
    const expected = await run(reference, length);
    const actual = await run(device === "webgpu" ? await gpuBackend() : await wasmBackend(device), length);
    for (const name in expected) expectClose(name, actual[name], expected[name], 1e-5);
  });
});

it("has the same gradients whichever are wanted", async () => {
  for (const backend of [await wasmBackend(), ...(hasGpu ? [await gpuBackend()] : [])]) {
    const [x, kernel, D] = [normals(40), normals(20), normals(2)];
    const gradsOf = async (wanted: readonly string[]): Promise<Record<string, number[]>> => {
      const inputs = {
        x: tensorFrom(backend, x, [2, 10, 2]),
        kernel: tensorFrom(backend, kernel, [10, 2]),
        D: tensorFrom(backend, D, [2]),
      };
      for (const [name, input] of Object.entries(inputs)) input.requiresGrad = wanted.includes(name);
      const tape = new Tape();
      tape.backward(tape.record(() => fftConvolution(inputs, {})).y, tensorFrom(backend, x.toReversed(), [2, 10, 2]));
      const grads: Record<string, number[]> = {};
      for (const name of wanted) grads[name] = [...(await tape.gradOf(inputs[name as "x"])!.readNative())];
      return grads;
    };
    const all = await gradsOf(["x", "kernel", "D"]);
    for (const name of Object.keys(all)) expect((await gradsOf([name]))[name]).toEqual(all[name]);
  }
});

it("names the shapes that do not fit", () => {
  const x = zeros(reference, [1, 4, 2]);
  expect(() => fftConvolution({ x, kernel: zeros(reference, [3, 2]) }, {})).toThrow(
    "fftConvolution: kernel must be [length, channels] = [4, 2], got [3, 2].",
  );
});
