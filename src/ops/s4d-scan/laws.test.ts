// What the recurrence promises: convolution = recurrence, steps = whole, calls = whole, documents = separate sequences.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { fftConvolution } from "../fft-convolution/index.ts";
import { s4dKernel } from "../s4d-kernel/index.ts";
import { initS4d } from "../s4d-kernel/init.ts";
import { s4dScan } from "./index.ts";

const [batch, length, channels, pairs] = [2, 150, 5, 8];
const DOCUMENT = 71;
const random = createRandom(11);
const values = Array.from({ length: batch * length * channels }, () => Math.fround(random.normal()));
const initial = initS4d({ channels, pairs, kind: "s4d-legs" }, random);
const skips = Array.from({ length: channels }, () => Math.fround(random.normal()));

const parametersOn = (backend: Backend) => ({
  logDt: tensorFrom(backend, initial.logDt, [channels]),
  A_log_real: tensorFrom(backend, initial.A_log_real, [channels, pairs]),
  A_imag: tensorFrom(backend, initial.A_imag, [channels, pairs]),
  C: tensorFrom(backend, initial.C, [channels, 2 * pairs]),
});

/** Steps from `from` to `to` of all sequences. */
function stepsOf(backend: Backend, from: number, to: number): Tensor {
  const rows = values.filter((_, i) => {
    const step = Math.floor(i / channels) % length;
    return step >= from && step < to;
  });
  return tensorFrom(backend, rows, [batch, to - from, channels]);
}

/** y of all steps, from calls that end at `ends`. */
async function yOfCalls(backend: Backend, ends: readonly number[], start?: Tensor): Promise<number[]> {
  const inputs = { ...parametersOn(backend), D: tensorFrom(backend, skips, [channels]) };
  const y = values.map(() => NaN);
  let from = 0;
  let initialState = start;
  for (const to of ends) {
    const result = s4dScan({ ...inputs, x: stepsOf(backend, from, to), initialState }, {});
    const own = await result.y.readNative();
    own.forEach((value, i) => {
      const [b, t] = [Math.floor(i / channels / (to - from)), Math.floor(i / channels) % (to - from)];
      y[(b * length + from + t) * channels + (i % channels)] = value;
    });
    initialState = result.finalState;
    from = to;
  }
  return y;
}

const devices = ["reference", "simd", "relaxed", "webgpu"] as const;

describe.each(devices)("on %s", (device) => {
  const isThere = device !== "webgpu" || hasGpu;
  const open = async (): Promise<Backend> => {
    if (device === "reference") return reference;
    return device === "webgpu" ? gpuBackend() : wasmBackend(device);
  };
  const tolerance = device === "reference" ? 1e-9 : 1e-4;

  it.skipIf(!isThere)("the recurrence is the convolution with the kernel", async () => {
    const backend = await open();
    const { kernel } = s4dKernel(parametersOn(backend), { length });
    const D = tensorFrom(backend, skips, [channels]);
    const { y } = fftConvolution({ x: stepsOf(backend, 0, length), kernel, D }, {});
    expectClose("y", await y.readNative(), await yOfCalls(backend, [length]), tolerance);
  });

  it.skipIf(!isThere)("step by step and in two calls are the whole", async () => {
    const backend = await open();
    const whole = await yOfCalls(backend, [length]);
    const steps = await yOfCalls(
      backend,
      Array.from({ length }, (_, t) => t + 1),
    );
    const calls = await yOfCalls(backend, [DOCUMENT, length]);
    if (device === "webgpu") {
      expectClose("steps", steps, whole, 1e-5);
      expectClose("calls", calls, whole, 1e-5);
    } else {
      expect(steps).toEqual(whole);
      expect(calls).toEqual(whole);
    }
  });

  it.skipIf(!isThere)("a document begins as a sequence of its own", async () => {
    const backend = await open();
    const starts = Array.from({ length: batch * length }, (_, i) => (i % length === DOCUMENT ? 1 : 0));
    const documentStarts = tensorFrom(backend, starts, [batch, length], "i32");
    const inputs = parametersOn(backend);
    const { y, finalState } = s4dScan({ ...inputs, x: stepsOf(backend, 0, length), documentStarts }, {});
    const own = s4dScan({ ...inputs, x: stepsOf(backend, DOCUMENT, length) }, {});
    const after = (await y.readNative()).filter((_, i) => Math.floor(i / channels) % length >= DOCUMENT);
    expectClose("y", after, await own.y.readNative(), device === "webgpu" ? 1e-5 : 1e-7);
    expectClose("finalState", await finalState.readNative(), await own.finalState.readNative(), 1e-5);
  });

  it.skipIf(!isThere)("a final state may be written over the initial one", async () => {
    const backend = await open();
    const inputs = parametersOn(backend);
    const x = stepsOf(backend, 0, DOCUMENT);
    const { finalState } = s4dScan({ ...inputs, x }, {});
    const expected = await s4dScan({ ...inputs, x, initialState: finalState }, {}).finalState.readNative();
    s4dScan({ ...inputs, x, initialState: finalState }, {}, { finalState });
    expectClose("finalState", await finalState.readNative(), expected, 1e-7);
  });
});
