// Cases of the selective scan: the shapes of the official kernels' measurements, and sweeps over its layouts.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { DType } from "../../src/core/dtype.ts";
import { createRandom } from "../../src/core/random.ts";
import type { ScanInputs, ScanOutputs } from "../../src/ops/selective-scan/index.ts";
import type { WantedPlan } from "../../src/ops/selective-scan/webgpu-choice.ts";
import { SAVE_EVERY } from "../../src/ops/selective-scan/webgpu-choice.ts";
import { backward, forward } from "../../src/ops/selective-scan/webgpu.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

export interface Shape {
  readonly batch: number;
  readonly length: number;
  readonly dInner?: number;
  readonly dState?: number;
  readonly dtype?: DType;
}

/** Elements that the host makes; larger tensors repeat them. */
const HOST_ELEMENTS = 1 << 20;

/** A tensor of numbers around `mean`, the host's part copied over and over. */
function fill(backend: WebGpuBackend, shape: readonly number[], mean: number, spread: number, dtype: DType): Tensor {
  const tensor = emptyTensor(backend, shape, dtype);
  const random = createRandom(shape.length);
  const count = Math.min(tensor.size, HOST_ELEMENTS);
  const some = Float32Array.from({ length: count }, () => mean + spread * random.normal());
  backend.write(tensor.storage, some);
  for (let done = count; done < tensor.size; done += count) {
    const part = Math.min(count, tensor.size - done);
    const source = tensorFrom(backend, some.subarray(0, part), [part], dtype);
    backend.copy(source.storage, 0, tensor.storage, done, part);
    source.dispose();
  }
  return tensor;
}

export function makeScan(
  backend: WebGpuBackend,
  { batch, length, dInner = 1536, dState = 16, dtype = "f32" }: Shape,
): { inputs: ScanInputs; outputs: ScanOutputs } {
  const token = (columns: number, mean = 0, spread = 1) => fill(backend, [batch, length, columns], mean, spread, dtype);
  const A = tensorFrom(
    backend,
    Float32Array.from({ length: dInner * dState }, (_, i) => -1 - (i % dState)),
    [dInner, dState],
  );
  const inputs = {
    x: token(dInner),
    dtRaw: token(dInner, -3, 1),
    A,
    B: token(dState),
    C: token(dState),
    D: fill(backend, [dInner], 1, 0.1, "f32"),
    dtBias: fill(backend, [dInner], -1, 0.5, "f32"),
    z: token(dInner),
  };
  const outputs = {
    y: emptyTensor(backend, inputs.x.shape, dtype),
    finalState: emptyTensor(backend, [batch, dInner, dState]),
  };
  return { inputs, outputs };
}

const nameOf = ({ batch, length, dInner = 1536, dtype = "f32" }: Shape): string =>
  `${dtype} B${batch} D${dInner} L${length}`;

function forwardCase(shape: Shape): GpuCase {
  return {
    name: `scan forward ${nameOf(shape)}`,
    tags: ["scan"],
    async run(backend) {
      const call = { ...makeScan(backend, shape), saved: undefined, options: {} };
      const time = await timeOnGpu(backend, () => forward(call, backend));
      return { ...time, ...(await timeByKernel(backend, () => forward(call, backend))) };
    },
  };
}

/** What a training step calls: forward with states saved, and backward, each gradient written anew. */
function makeTraining(backend: WebGpuBackend, shape: Shape) {
  const { inputs, outputs } = makeScan(backend, shape);
  const { x, A, B } = inputs;
  const [batch, length, dInner] = x.shape;
  const chunks = Math.ceil(length / SAVE_EVERY);
  const saved = { chunkStarts: emptyTensor(backend, [batch, chunks, dInner, A.columns]) };
  const like = (tensor: Tensor): Tensor => emptyTensor(backend, tensor.shape, tensor.dtype);
  const { dtRaw, C, D, dtBias, z } = inputs;
  const gradInputs = {
    x: like(x),
    dtRaw: like(dtRaw),
    A: like(A),
    B: like(B),
    C: like(C),
    D: D && like(D),
    dtBias: dtBias && like(dtBias),
    z: z && like(z),
  };
  const gradOutputs = { y: fill(backend, x.shape, 0, 1, x.dtype) };
  const call = { inputs, outputs, saved, options: {}, gradOutputs, gradInputs };
  return {
    gradInputs,
    forward: () => forward(call, backend),
    backward(wanted: WantedPlan = {}) {
      for (const gradient of Object.values(gradInputs)) if (gradient) backend.clear(gradient.storage);
      backward(call, backend, wanted);
    },
  };
}

function trainingCase(shape: Shape): GpuCase {
  return {
    name: `scan forward + backward ${nameOf(shape)}`,
    tags: ["scan"],
    async run(backend) {
      const training = makeTraining(backend, shape);
      const both = (): void => {
        training.forward();
        training.backward();
      };
      const { ms } = await timeOnGpu(backend, both);
      const forwardTime = await timeOnGpu(backend, training.forward);
      return { ms, forward: forwardTime.ms, ...(await timeByKernel(backend, both)) };
    },
  };
}

/** Layouts of the backward pass, each with the worst difference of its gradients of dtRaw, B and A to those of the first. */
function backwardVariants(shape: Shape, variants: readonly WantedPlan[]): GpuCase {
  return {
    name: `scan backward variants ${nameOf(shape)}`,
    tags: ["scan-variants"],
    async run(backend) {
      const training = makeTraining(backend, shape);
      training.forward();
      const { dtRaw, B, A } = training.gradInputs;
      const results: Numbers[] = [];
      let first: Float32Array[] | undefined;
      for (const wanted of [{}, ...variants]) {
        const layout = JSON.stringify(wanted).replaceAll('"', "");
        try {
          const { ms, least } = await timeOnGpu(backend, () => training.backward(wanted), { runs: 7 });
          const parts = [dtRaw.rowsOf(dtRaw.rows - 16, 16), B.rowsOf(0, 64), A];
          const gradients = await Promise.all(parts.map(async (part) => part.read()));
          first ??= gradients;
          const worst = Math.max(...gradients.map((gradient, i) => difference(gradient, first![i])));
          results.push({ layout, ms, least, difference: worst });
        } catch (error) {
          results.push({ layout, failed: String(error) });
        }
      }
      return results;
    },
  };
}

/** Layouts one after the other, each with the worst difference of its y to that of the first, relative to the largest. */
function forwardVariants(shape: Shape, variants: readonly WantedPlan[]): GpuCase {
  return {
    name: `scan forward variants ${nameOf(shape)}`,
    tags: ["scan-variants"],
    async run(backend) {
      const call = { ...makeScan(backend, shape), saved: undefined, options: {} };
      const results: Numbers[] = [];
      let first: Float32Array | undefined;
      for (const wanted of [{}, ...variants]) {
        const layout = JSON.stringify(wanted).replaceAll('"', "");
        try {
          const { ms, least } = await timeOnGpu(backend, () => forward(call, backend, wanted), { runs: 7 });
          const y = await call.outputs.y.rowsOf(call.outputs.y.rows - 16, 16).read();
          first ??= y;
          results.push({ layout, ms, least, difference: difference(y, first) });
        } catch (error) {
          results.push({ layout, failed: String(error) });
        }
      }
      return results;
    },
  };
}

function difference(actual: Float32Array, expected: Float32Array): number {
  let [worst, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return Number.isFinite(worst / largest) ? worst / largest : Infinity;
}

const LAYOUTS: readonly WantedPlan[] = [
  { steps: 8 },
  { channels: 16 },
  { unroll: 8 },
  { unroll: 16 },
  { unroll: 2 },
  { chunks: 2 },
  { vectors: 2, channels: 32 },
  { vectors: 2, channels: 64 },
  { vectors: 4, channels: 64, chunks: 8 },
  { vectors: 4, channels: 128, chunks: 4 },
  { vectors: 4, channels: 128, chunks: 8 },
];
const CHUNKS: readonly WantedPlan[] = [
  { vectors: 4, channels: 128, chunks: 16 },
  { vectors: 4, channels: 128, chunks: 32 },
  { vectors: 4, channels: 128, chunks: 32, steps: 4 },
  { vectors: 4, channels: 128, chunks: 32, steps: 16 },
  { vectors: 4, channels: 128, chunks: 32, unroll: 2 },
  { vectors: 4, channels: 128, chunks: 32, unroll: 8 },
  { vectors: 4, channels: 64, chunks: 32 },
  { vectors: 4, channels: 128, chunks: 43 },
  { vectors: 4, channels: 128, chunks: 64 },
  { vectors: 4, channels: 128, chunks: 96 },
  { vectors: 4, channels: 128, chunks: 128 },
  { vectors: 2, channels: 64, chunks: 64 },
  { vectors: 2, channels: 128, chunks: 32 },
];
const BACKWARD: readonly WantedPlan[] = [
  { lanes: 0, channels: 16 },
  { lanes: 0, channels: 16, steps: 16 },
  { steps: 4 },
  { steps: 16 },
  { unroll: 1 },
  { unroll: 8 },
  { vectors: 2 },
  { chunks: 2 },
];

export const SCAN_CASES: readonly GpuCase[] = [
  forwardCase({ batch: 8, length: 2048 }),
  forwardCase({ batch: 8, length: 2048, dtype: "f16" }),
  forwardCase({ batch: 1, length: 2048 }),
  forwardCase({ batch: 1, length: 131072 }),
  forwardCase({ batch: 1, length: 1048576, dtype: "f16" }),
  trainingCase({ batch: 8, length: 2048 }),
  trainingCase({ batch: 8, length: 2048, dtype: "f16" }),
  trainingCase({ batch: 1, length: 16384 }),
  forwardVariants({ batch: 8, length: 2048 }, LAYOUTS),
  forwardVariants({ batch: 8, length: 2048, dtype: "f16" }, LAYOUTS),
  forwardVariants({ batch: 1, length: 2048 }, CHUNKS),
  forwardVariants({ batch: 1, length: 131072 }, CHUNKS),
  forwardVariants({ batch: 1, length: 131072, dtype: "f16" }, CHUNKS),
  forwardVariants({ batch: 1, length: 1048576, dtype: "f16" }, [
    { chunks: 32, vectors: 4, channels: 128 },
    { chunks: 64, vectors: 4, channels: 128 },
    { chunks: 128, vectors: 4, channels: 128 },
  ]),
  backwardVariants({ batch: 8, length: 2048 }, BACKWARD),
];
