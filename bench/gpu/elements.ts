// Cases of the ops that are bound by memory: how near their kernels come to its bandwidth, every tensor counted once.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { DType } from "../../src/core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../src/core/dtype.ts";
import { add } from "../../src/ops/add/index.ts";
import { causalConv1d } from "../../src/ops/causal-conv1d/index.ts";
import { backwardPiece } from "../../src/ops/causal-conv1d/webgpu-gradient.ts";
import { forwardPiece } from "../../src/ops/causal-conv1d/webgpu.ts";
import { embedding } from "../../src/ops/embedding/index.ts";
import { rmsNorm } from "../../src/ops/rms-norm/index.ts";
import * as norm from "../../src/ops/rms-norm/webgpu.ts";
import { siluGate } from "../../src/ops/silu-gate/index.ts";
import { softplus } from "../../src/ops/softplus/index.ts";
import { addColumnSums } from "../../src/ops/webgpu-column-sums.ts";
import type { RowSharing } from "../../src/ops/webgpu-row-sums.ts";
import type { Op, Tensors } from "../../src/tensor/define-op.ts";
import type { Shape } from "../../src/core/shape.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, fillZero, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

type Place = readonly [shape: Shape, dtype?: DType];

/** A tensor of ones and a half, so that nothing overflows. A view of the left half of a wider one where `isView`. */
function filled(backend: WebGpuBackend, [shape, dtype = "f32"]: Place, isView = false): Tensor {
  const columns = shape.at(-1)!;
  const base = emptyTensor(backend, isView ? [...shape.slice(0, -1), 2 * columns] : shape, dtype);
  const piece = new Float32Array(Math.min(base.size, 1 << 20)).map((_, i) => 0.5 + ((i * 7919) % 101) / 101);
  for (let at = 0; at < base.size; at += piece.length)
    backend.write(base.storage, piece.subarray(0, Math.min(piece.length, base.size - at)), at);
  return isView ? base.columnsOf(0, columns) : base;
}

function bytesOf(...tensors: readonly (Tensor | undefined)[]): number {
  return tensors.reduce((sum, tensor) => sum + (tensor ? tensor.size * BYTES_PER_ELEMENT[tensor.dtype] : 0), 0);
}

async function measure(backend: WebGpuBackend, what: string, bytes: number, body: () => void): Promise<Numbers> {
  const { ms, least } = await timeOnGpu(backend, () => scope(body));
  return { what, ms, least, "GB/s": Math.round(bytes / ms / 1e6) };
}

interface OpBench<I, Options> {
  readonly op: Op<I & Tensors, Tensors, Options>;
  readonly inputs: (backend: WebGpuBackend) => I;
  readonly options: Options;
  /** Outputs whose gradients come in. */
  readonly seeds: readonly string[];
  /** Inputs of which only a part is read. */
  readonly uncounted?: readonly string[];
}

/** Forward; backward into gradients that are empty; and into ones that hold something. */
function opCase<I extends Tensors, Options>(name: string, bench: OpBench<I, Options>): GpuCase {
  return {
    name,
    tags: ["elements"],
    async run(backend) {
      const { op, options, seeds, uncounted = [] } = bench;
      const { definition } = op;
      const inputs = bench.inputs(backend);
      const outputs = op(inputs, options);
      const saved: Record<string, Tensor> = {};
      for (const [key, { shape, dtype }] of Object.entries(definition.saves?.(inputs, options) ?? {}))
        saved[key] = emptyTensor(backend, shape, dtype);
      const counted = Object.entries(inputs).flatMap(([key, input]) => (uncounted.includes(key) ? [] : [input]));
      const forward = (): void => definition.kernels.webgpu!({ inputs, outputs, saved, options }, backend);
      const results = [await measure(backend, "forward", bytesOf(...counted, ...Object.values(outputs)), forward)];
      const gradOutputs: Record<string, Tensor> = {};
      for (const key of seeds) gradOutputs[key] = filled(backend, [outputs[key]!.shape, outputs[key]!.dtype]);
      const gradInputs: Record<string, Tensor> = {};
      for (const key of definition.gradient!.of)
        if (inputs[key]) gradInputs[key] = zeros(backend, inputs[key].shape, inputs[key].dtype);
      const call = { inputs, outputs, saved, options, gradOutputs, gradInputs };
      const backward = (): void => definition.gradient!.kernels.webgpu!(call, backend);
      const all = [...counted, ...Object.values(gradOutputs)];
      const grads = Object.values(gradInputs);
      const fresh = (): void => {
        grads.forEach(fillZero);
        backward();
      };
      results.push(await measure(backend, "backward", bytesOf(...all, ...grads), fresh));
      results.push(await measure(backend, "backward, adding", bytesOf(...all, ...grads, ...grads), backward));
      results.push({ what: "kernels", ...(await timeByKernel(backend, fresh)) });
      return results;
    },
  };
}

function normCase(rows: number, width: number, y: DType): GpuCase {
  return opCase(`rmsNorm [${rows}, ${width}] f32 to ${y}`, {
    op: rmsNorm as unknown as Op<Tensors, Tensors, { dtype: DType }>,
    inputs: (backend) => ({ x: filled(backend, [[rows, width]]), weight: filled(backend, [[width]]) }),
    options: { dtype: y },
    seeds: ["y"],
  });
}

function pairCase(name: string, op: unknown, names: readonly string[], dtype: DType): GpuCase {
  return opCase(`${name} [8, 2048, 1536] ${dtype}`, {
    op: op as Op<Tensors, Tensors, object>,
    inputs: (backend) => Object.fromEntries(names.map((key) => [key, filled(backend, [[8, 2048, 1536], dtype], true)])),
    options: {},
    seeds: ["y"],
  });
}

function convCase([batch, length, channels]: readonly [number, number, number], dtype: DType): GpuCase {
  return opCase(`conv [${batch}, ${length}, ${channels}] ${dtype}`, {
    op: causalConv1d as unknown as Op<Tensors, Tensors, { silu: boolean }>,
    inputs: (backend) => ({
      x: filled(backend, [[batch, length, channels], dtype], true),
      weight: filled(backend, [[channels, 4]]),
      bias: filled(backend, [[channels]]),
    }),
    options: { silu: true },
    seeds: ["y"],
  });
}

/** Ids as words are: the r-th word with a share that falls as 1 / r. */
function zipf(count: number, vocab: number): Int32Array {
  const total = Math.log(vocab);
  return Int32Array.from(
    { length: count },
    (_, i) => Math.floor(Math.exp((((i * 7919) % count) / count) * total)) % vocab,
  );
}

function embeddingCase(name: string, idsOf: (count: number, vocab: number) => Int32Array): GpuCase {
  const [vocab, width, count] = [50280, 768, 16384];
  return opCase(`embedding ${vocab} x ${width}, ${count} ids, ${name}`, {
    op: embedding as unknown as Op<Tensors, Tensors, object>,
    inputs: (backend) => ({
      ids: tensorFrom(backend, idsOf(count, vocab), [count], "i32"),
      weight: filled(backend, [[vocab, width]]),
    }),
    options: {},
    seeds: ["y"],
    uncounted: ["weight"],
  });
}

/** One step of decoding, the state written over in place. */
function convStepCase(batch: number): GpuCase {
  return {
    name: `conv step B${batch} D1536`,
    tags: ["elements"],
    run(backend) {
      const x = filled(backend, [[batch, 1, 1536]], true);
      const weight = filled(backend, [[1536, 4]]);
      const state = zeros(backend, [batch, 3, 1536]);
      const body = (): void =>
        void causalConv1d({ x, weight, initialState: state }, { silu: true }, { finalState: state });
      return measure(backend, "forward", bytesOf(x, x, weight, state, state), body);
    },
  };
}

function sumsCase(columns: number, dtype: DType): GpuCase {
  return {
    name: `column sums [16384, ${columns}] ${dtype}`,
    tags: ["elements"],
    run(backend) {
      const x = filled(backend, [[16384, columns], dtype]);
      const sum = zeros(backend, [columns]);
      return measure(backend, "forward", bytesOf(x), () => addColumnSums(backend, x, sum));
    },
  };
}

/** Steps of a thread, and steps that are unrolled, side by side. */
function convVariants(dtype: DType): GpuCase {
  return {
    name: `conv variants [8, 2048, 1536] ${dtype}`,
    tags: ["variants", "elements"],
    async run(backend) {
      const shape = [8, 2048, 1536];
      const [x, gradY] = [filled(backend, [shape, dtype], true), filled(backend, [shape, dtype])];
      const [weight, bias] = [filled(backend, [[1536, 4]]), filled(backend, [[1536]])];
      const [y, gradX] = [emptyTensor(backend, shape, dtype), zeros(backend, shape, dtype)];
      const [gradWeight, gradBias] = [zeros(backend, [1536, 4]), zeros(backend, [1536])];
      const finalState = zeros(backend, [8, 3, 1536]);
      const inputs = { x, weight, bias };
      const gradients = { gradY, gradX, gradWeight, gradBias, gradFinal: undefined, gradInitial: undefined };
      const results: Numbers[] = [];
      for (const steps of [8, 16, 32, 64])
        for (const atOnce of [2, 4, 8, 16]) {
          if (atOnce > steps) continue;
          const forward = await measure(backend, "forward", bytesOf(x, y), () =>
            forwardPiece(backend, inputs, { y, finalState }, { silu: true }, { steps, atOnce }),
          );
          const backward = await measure(backend, "backward", bytesOf(x, gradY, gradX), () => {
            fillZero(gradX);
            backwardPiece(backend, inputs, { silu: true }, gradients, { steps, atOnce });
          });
          results.push({ steps, atOnce, ...forward }, { steps, atOnce, ...backward });
        }
      return results;
    },
  };
}

/** Threads of a row, side by side. */
function normVariants(width: number): GpuCase {
  return {
    name: `rmsNorm variants [16384, ${width}]`,
    tags: ["variants", "elements"],
    async run(backend) {
      const [x, weight, gradY] = [
        filled(backend, [[16384, width]]),
        filled(backend, [[width]]),
        filled(backend, [[16384, width]]),
      ];
      const [y, inverse] = [emptyTensor(backend, [16384, width]), filled(backend, [[16384]])];
      const [gradX, gradWeight] = [zeros(backend, [16384, width]), zeros(backend, [width])];
      const inputs = { x, weight };
      const results: Numbers[] = [];
      for (const { lanes, rowsAtOnce } of [
        { lanes: 32, rowsAtOnce: 1 },
        { lanes: 32, rowsAtOnce: 2 },
        { lanes: 32, rowsAtOnce: 4 },
        { lanes: 64, rowsAtOnce: 1 },
        { lanes: 128, rowsAtOnce: 1 },
        { lanes: 256, rowsAtOnce: 1 },
      ]) {
        const sharing: RowSharing = { lanes, rowsAtOnce, items: Math.ceil(width / 4 / lanes), subgroup: 32 };
        const forward = await measure(backend, "forward", bytesOf(x, y), () =>
          norm.forward({ inputs, outputs: { y }, saved: { inverse }, options: {} }, backend, sharing),
        );
        const call = { inputs, outputs: { y }, saved: { inverse }, options: {} };
        const grads = { gradOutputs: { y: gradY }, gradInputs: { x: gradX, weight: gradWeight } };
        const backward = await measure(backend, "backward", bytesOf(x, gradY, gradX), () => {
          fillZero(gradX);
          norm.backward({ ...call, ...grads }, backend, sharing);
        });
        results.push({ lanes, rowsAtOnce, ...forward }, { lanes, rowsAtOnce, ...backward });
      }
      return results;
    },
  };
}

export const ELEMENT_CASES: readonly GpuCase[] = [
  pairCase("add", add, ["a", "b"], "f32"),
  pairCase("add", add, ["a", "b"], "f16"),
  pairCase("siluGate", siluGate, ["x", "z"], "f32"),
  pairCase("siluGate", siluGate, ["x", "z"], "f16"),
  pairCase("softplus", softplus, ["x"], "f32"),
  pairCase("softplus", softplus, ["x"], "f16"),
  normCase(16384, 768, "f32"),
  normCase(16384, 768, "f16"),
  normCase(16384, 2560, "f16"),
  normCase(1, 768, "f32"),
  convCase([8, 2048, 1536], "f32"),
  convCase([8, 2048, 1536], "f16"),
  convCase([1, 2048, 1536], "f32"),
  convCase([1, 131072, 1536], "f16"),
  convStepCase(1),
  convStepCase(128),
  embeddingCase("as words are", zipf),
  embeddingCase("all the same", (count) => new Int32Array(count).fill(7)),
  sumsCase(768, "f32"),
  sumsCase(3072, "f16"),
  normVariants(768),
  normVariants(2560),
  convVariants("f32"),
  convVariants("f16"),
];
