// Cases of attention: training's forward and backward passes, prefill, and a token's step on a cache.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { DType } from "../../src/core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../src/core/dtype.ts";
import type { Shape } from "../../src/core/shape.ts";
import { cachedAttention } from "../../src/ops/cached-attention/index.ts";
import { causalAttention } from "../../src/ops/causal-attention/index.ts";
import { forward } from "../../src/ops/causal-attention/webgpu.ts";
import { rotary } from "../../src/ops/rotary/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

const HEAD_DIM = 64;

function filled(backend: WebGpuBackend, shape: Shape, dtype: DType): Tensor {
  const tensor = emptyTensor(backend, shape, dtype);
  const piece = new Float32Array(Math.min(tensor.size, 1 << 20)).map((_, i) => ((i * 7919) % 101) / 50 - 1);
  for (let at = 0; at < tensor.size; at += piece.length)
    backend.write(tensor.storage, piece.subarray(0, Math.min(piece.length, tensor.size - at)), at);
  return tensor;
}

/** Makes tensors for a measurement, and gives them back behind it. */
async function measureWith<T extends { readonly [name: string]: Tensor }>(
  make: () => T,
  body: (made: T) => Promise<Numbers>,
): Promise<Numbers> {
  const made = scope(make);
  const numbers = await body(made);
  for (const tensor of Object.values(made)) (tensor.base ?? tensor).dispose();
  return numbers;
}

export interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly dtype: DType;
}

export function inputsOf(
  backend: WebGpuBackend,
  { batch, length, heads, dtype }: Sizes,
): { q: Tensor; k: Tensor; v: Tensor } {
  const width = heads * HEAD_DIM;
  const qkv = filled(backend, [batch, length, 3 * width], dtype);
  qkv.requiresGrad = true;
  return { q: qkv.columnsOf(0, width), k: qkv.columnsOf(width, 2 * width), v: qkv.columnsOf(2 * width, 3 * width) };
}

const nameOf = ({ batch, length, heads, dtype }: Sizes): string =>
  `${dtype} B${batch} H${heads}x${HEAD_DIM} L${length}`;

/** Floating-point operations of the two products of a forward pass, half of the square. */
const operations = ({ batch, length, heads }: Sizes): number => 2 * batch * heads * length * length * HEAD_DIM;

function trainingCase(sizes: Sizes): GpuCase {
  const yShape = [sizes.batch, sizes.length, sizes.heads * HEAD_DIM];
  return {
    name: `attention ${nameOf(sizes)}`,
    tags: ["attention"],
    run: (backend) =>
      measureWith(
        () => ({ ...inputsOf(backend, sizes), gradY: filled(backend, yShape, sizes.dtype) }),
        async (made) => {
          const { gradY, ...inputs } = made;
          const pass = (): void =>
            scope(() => {
              const tape = new Tape();
              const { y } = tape.record(() => causalAttention(inputs, { headDim: HEAD_DIM }));
              tape.backward(y, gradY);
            });
          const alone = await timeOnGpu(backend, () =>
            scope(() => void causalAttention(inputs, { headDim: HEAD_DIM })),
          );
          const both = await timeOnGpu(backend, pass);
          const rates = { "forward TFLOP/s": +(operations(sizes) / alone.ms / 1e9).toFixed(1) };
          return {
            forward: alone.ms,
            "forward and backward": both.ms,
            ...rates,
            ...(await timeByKernel(backend, pass)),
          };
        },
      ),
  };
}

/** Ways of the forward pass: on plain units, and on matrix units by so many subgroups. */
const WAYS = {
  "plain 64x64 steps 32": { tileRows: 64, tileColumns: 64, steps: 32, threadRows: 4 },
  "plain 64x64 steps 16": { tileRows: 64, tileColumns: 64, steps: 16, threadRows: 4 },
  "plain 32x32 steps 16": { tileRows: 32, tileColumns: 32, steps: 16, threadRows: 4 },
  "matrices, 2 subgroups": { subgroups: 2, emulated: false },
  "matrices, 4 subgroups": { subgroups: 4, emulated: false },
} as const;

function waysCase(sizes: Sizes): GpuCase {
  const yShape = [sizes.batch, sizes.length, sizes.heads * HEAD_DIM];
  return {
    name: `attention ways ${nameOf(sizes)}`,
    tags: ["attention", "variants"],
    run: (backend) =>
      measureWith(
        () => ({ ...inputsOf(backend, sizes), y: emptyTensor(backend, yShape, sizes.dtype) }),
        async (made) => {
          const { y, ...inputs } = made;
          const times: Record<string, number> = {};
          for (const [name, way] of Object.entries(WAYS)) {
            const call = { inputs, outputs: { y }, saved: undefined, options: { headDim: HEAD_DIM } };
            const { ms } = await timeOnGpu(backend, () => forward(call, backend, way));
            times[name] = ms;
          }
          return times;
        },
      ),
  };
}

interface StepSizes {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly held: number;
  readonly dtype: DType;
}

function stepCase({ batch, heads, kvHeads, held, dtype }: StepSizes): GpuCase {
  return {
    name: `attention step ${dtype} B${batch} H${heads}/${kvHeads}x${HEAD_DIM}, ${held} tokens`,
    tags: ["attention"],
    run: (backend) => {
      const [width, kvWidth] = [heads * HEAD_DIM, kvHeads * HEAD_DIM];
      const make = () => ({
        qkv: filled(backend, [batch, 1, width + 2 * kvWidth], "f32"),
        keys: filled(backend, [batch, held, kvWidth], dtype),
        values: filled(backend, [batch, held, kvWidth], dtype),
        lengths: tensorFrom(backend, new Int32Array(batch).fill(held - 1), [batch], "i32"),
      });
      return measureWith(make, async ({ qkv, ...cache }) => {
        const q = qkv.columnsOf(0, width);
        const k = qkv.columnsOf(width, width + kvWidth);
        const v = qkv.columnsOf(width + kvWidth, width + 2 * kvWidth);
        const step = (): void => scope(() => void cachedAttention({ q, k, v, ...cache }, { headDim: HEAD_DIM }));
        const { ms } = await timeOnGpu(backend, step);
        const bytes = 2 * cache.keys.size * BYTES_PER_ELEMENT[dtype];
        return { ms, "GB/s": Math.round(bytes / ms / 1e6), ...(await timeByKernel(backend, step)) };
      });
    },
  };
}

const rotaryCase = (sizes: Sizes): GpuCase => ({
  name: `rotary ${nameOf(sizes)}`,
  tags: ["attention"],
  run: (backend) =>
    measureWith(
      () => inputsOf(backend, sizes),
      async ({ q }) => {
        const { ms } = await timeOnGpu(backend, () => scope(() => void rotary({ x: q }, { headDim: HEAD_DIM })));
        return { ms, "GB/s": Math.round((2 * q.size * BYTES_PER_ELEMENT[sizes.dtype]) / ms / 1e6) };
      },
    ),
});

export const ATTENTION_CASES: readonly GpuCase[] = [
  trainingCase({ batch: 64, length: 512, heads: 6, dtype: "f16" }),
  trainingCase({ batch: 8, length: 2048, heads: 12, dtype: "f16" }),
  trainingCase({ batch: 8, length: 2048, heads: 12, dtype: "f32" }),
  trainingCase({ batch: 1, length: 16384, heads: 12, dtype: "f16" }),
  waysCase({ batch: 8, length: 2048, heads: 12, dtype: "f16" }),
  stepCase({ batch: 1, heads: 12, kvHeads: 12, held: 2048, dtype: "f32" }),
  stepCase({ batch: 16, heads: 12, kvHeads: 12, held: 2048, dtype: "f16" }),
  stepCase({ batch: 256, heads: 12, kvHeads: 12, held: 2048, dtype: "f16" }),
  stepCase({ batch: 64, heads: 16, kvHeads: 8, held: 2048, dtype: "f16" }),
  rotaryCase({ batch: 8, length: 2048, heads: 12, dtype: "f16" }),
];
