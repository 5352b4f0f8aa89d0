// s4dKernel against the reference and central differences, and far out where phases have gone round many times.
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
import type { S4dKernelInputs } from "./index.ts";
import { s4dKernel } from "./index.ts";
import { initS4d } from "./init.ts";

/** Inputs of a layer: dt from 0.03 to 0.1, Re A about -1/2, Im A up to some turns in the length. */
const layer = (channels: number, pairs: number, extraColumns?: number, frequency = 4): Record<string, InputSpec> => {
  const wide = extraColumns === undefined ? {} : { extraColumns };
  return {
    logDt: { shape: [channels], element: (random) => Math.log(0.03 + 0.07 * random.uniform()) },
    A_log_real: { shape: [channels, pairs], ...wide, element: (random) => Math.log(0.5) + 0.3 * random.normal() },
    A_imag: { shape: [channels, pairs], ...wide, element: (random) => frequency * random.normal() },
    C: { shape: [channels, 2 * pairs], ...wide },
  };
};

testOp(s4dKernel, [
  { name: "one step", inputs: layer(3, 2), options: { length: 1 } },
  { name: "a step more than a chunk", inputs: layer(5, 3), options: { length: 17 } },
  { name: "views of columns", inputs: layer(4, 5, 3), options: { length: 40 } },
  { name: "one channel, one pair", inputs: layer(1, 1), options: { length: 33 } },
  { name: "two tiles", inputs: layer(9, 4, undefined, 0.4), options: { length: 300 } },
]);

testOpOnGpu(s4dKernel, [{ name: "several workgroups", inputs: layer(37, 6, 2), options: { length: 300 } }], {
  bindingBytes: 1 << 14,
});

describe("far out", () => {
  const [channels, pairs, length] = [2, 4, 1 << 17];
  /** Slow decay, and phases of up to 10^5 turns. */
  const inputsOn = (backend: Backend): S4dKernelInputs => ({
    logDt: rounded(backend, [Math.log(0.001), Math.log(0.01)], [channels]),
    A_log_real: rounded(backend, Array<number>(8).fill(Math.log(0.05)), [channels, pairs]),
    A_imag: rounded(backend, [3.1, 100.7, 400.3, 1282.9, 0.4, -77.7, 301.1, 640], [channels, pairs]),
    C: rounded(backend, [1, 0, 0, 1, -1, 1, 0.5, -2, 1, 0, 0, 1, -1, 1, 0.5, -2], [channels, 2 * pairs]),
  });
  /** The same float32 numbers on every backend. */
  const rounded = (backend: Backend, values: number[], shape: number[]): Tensor =>
    tensorFrom(backend, Float32Array.from(values), shape);
  const run = async (backend: Backend): Promise<Record<string, ArrayLike<number>>> => {
    const inputs = inputsOn(backend);
    for (const input of Object.values(inputs)) input.requiresGrad = true;
    const tape = new Tape();
    const { kernel } = tape.record(() => s4dKernel(inputs, { length }));
    const random = createRandom(3);
    const seed = Float32Array.from({ length: kernel.size }, () => random.normal());
    tape.backward(kernel, tensorFrom(backend, seed, kernel.shape));
    const result: Record<string, ArrayLike<number>> = { kernel: await kernel.readNative() };
    for (const [name, input] of Object.entries(inputs)) result[name] = await tape.gradOf(input)!.readNative();
    return result;
  };

  it.each(["simd", "webgpu"] as const)("keeps 5e-6 for 2^17 steps on %s", async (device) => {
    if (device === "webgpu" && !hasGpu) return;
    const expected = await run(reference);
    const actual = await run(device === "webgpu" ? await gpuBackend() : await wasmBackend(device));
    expectClose("kernel", actual.kernel, expected.kernel, 5e-6);
    for (const name in expected) expectClose(`grad.${name}`, actual[name], expected[name], 1e-4);
  });
});

it("is a delta where A decays within a step, and the integral of a constant where A is near 0", () => {
  const kernelOf = (logReal: number, length: number): ArrayLike<number> =>
    s4dKernel(
      {
        logDt: tensorFrom(reference, [Math.log(0.1)], [1]),
        A_log_real: tensorFrom(reference, [logReal], [1, 1]),
        A_imag: zeros(reference, [1, 1]),
        C: tensorFrom(reference, [0.5, 0], [1, 2]),
      },
      { length },
    ).kernel.readNow();
  const fast = kernelOf(Math.log(1000), 3);
  expect(fast[0]).toBeCloseTo(1e-3, 12);
  expect(fast[1]).toBeLessThan(1e-40);
  for (const value of Array.from(kernelOf(-30, 3))) expect(value).toBeCloseTo(0.1, 12);
});

it("has the kernel that its initial values say", () => {
  const { logDt, A_log_real, A_imag, C } = initS4d({ channels: 1, pairs: 3, kind: "s4d-lin" }, createRandom(1));
  const inputs = {
    logDt: tensorFrom(reference, logDt, [1]),
    A_log_real: tensorFrom(reference, A_log_real, [1, 3]),
    A_imag: tensorFrom(reference, A_imag, [1, 3]),
    C: tensorFrom(reference, C, [1, 6]),
  };
  const kernel = s4dKernel(inputs, { length: 2 }).kernel.readNow();
  const dt = Math.exp(logDt[0]);
  // For small dt, BBar is about dt: kernel[0] is about 2 dt sum Re C.
  expect(kernel[0] / (2 * dt * (C[0] + C[2] + C[4]))).toBeCloseTo(1, 0);
});

it("names the shapes that do not fit", () => {
  const inputs = {
    logDt: zeros(reference, [2]),
    A_log_real: zeros(reference, [2, 3]),
    A_imag: zeros(reference, [2, 3]),
    C: zeros(reference, [2, 3]),
  };
  expect(() => s4dKernel(inputs, { length: 4 })).toThrow("s4dKernel: C must be [2, 6], got [2, 3].");
  expect(() => s4dKernel({ ...inputs, C: zeros(reference, [2, 6]) }, { length: 0 })).toThrow(
    "s4dKernel: length must be an integer from 1 to 1048576, got 0.",
  );
});
