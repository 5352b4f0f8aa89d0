// linearCrossEntropy on any device: the kernels of linear and crossEntropy, over so many rows at a time that their logits
// stay small. The backward pass computes them again, or the forward pass finds gradients with them at once.
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { BackwardCall, ForwardCall, TensorSpec } from "../../tensor/define-op.ts";
import { runBackward, runForward } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, fillZero, tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { CrossEntropyInputs, CrossEntropyOptions, CrossEntropyOutputs } from "../cross-entropy/index.ts";
import { linear } from "../linear/index.ts";
import type { LinearCrossEntropyInputs, LinearCrossEntropyOutputs } from "./index.ts";

/** The parts of crossEntropy on a device. */
export interface Losses {
  storeLosses(
    inputs: CrossEntropyInputs,
    outputs: { losses: Tensor; logSumExp: Tensor | undefined },
    options: CrossEntropyOptions,
  ): void;
  storeMean(
    targets: Tensor,
    outputs: { losses: Tensor; loss: Tensor; inverseCount: Tensor | undefined },
    options: CrossEntropyOptions,
  ): void;
  backward(call: BackwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>): void;
  /** to += a b from, a and b scalars on the device. Where there is one, gradients are found in the forward pass. */
  addScaled?(to: Tensor, from: Tensor, a: Tensor, b: Tensor): void;
}

/** Bytes of logits that are held at once: enough rows to keep a GPU, or all threads, busy with any vocabulary. */
const LOGIT_BYTES: Readonly<Record<Backend["name"], number>> = {
  reference: 2 ** 26,
  wasm: 2 ** 26,
  webgpu: 2 ** 29,
};
/** Chunks are multiples of so many rows, which fill the tiles of products. */
const ROWS = 128;

type Forward = ForwardCall<LinearCrossEntropyInputs, LinearCrossEntropyOutputs, CrossEntropyOptions>;
type Backward = BackwardCall<LinearCrossEntropyInputs, LinearCrossEntropyOutputs, CrossEntropyOptions>;

/** What the forward pass keeps beside logSumExp and inverseCount. */
export function keptByChunks(x: Tensor, weight: Tensor): Record<string, TensorSpec> {
  if (x.rows <= rowsPerChunk(x.backend, weight)) return { logits: { shape: [x.rows, weight.rows] } };
  if (x.backend.name !== "webgpu") return {};
  return { gradX: { shape: x.shape, dtype: x.dtype }, gradWeight: { shape: weight.shape } };
}

export function forwardByChunks({ inputs, outputs, saved, options }: Forward, losses: Losses): void {
  const { x, weight, targets } = inputs;
  for (const chunk of chunksOf(inputs)) {
    const logits = saved?.logits ?? emptyTensor(x.backend, [chunk.count, weight.rows]);
    storeLogits(inputs, chunk, logits);
    const rows = { losses: cut(outputs.losses, chunk), logSumExp: saved && cut(saved.logSumExp, chunk) };
    losses.storeLosses({ logits, targets: cut(targets, chunk) }, rows, options);
    if (saved?.gradX) storeGradients(inputs, { ...outputs, ...saved }, { chunk, logits, options }, losses);
    if (!saved?.logits) logits.dispose();
  }
  losses.storeMean(targets, { ...outputs, inverseCount: saved?.inverseCount }, options);
}

/** gradX and gradWeight, as if each row's loss had the gradient 1: while the logits are there. */
function storeGradients(
  inputs: LinearCrossEntropyInputs,
  { loss, losses: all, logSumExp, gradX, gradWeight }: LinearCrossEntropyOutputs & Readonly<Record<string, Tensor>>,
  { chunk, logits, options }: { chunk: Chunk; logits: Tensor; options: CrossEntropyOptions },
  losses: Losses,
): void {
  if (chunk.first === 0) [gradX, gradWeight].forEach(fillZero);
  const one = tensorFrom(inputs.x.backend, [1], []);
  const gradLogits = zeros(inputs.x.backend, logits.shape, inputs.x.dtype);
  losses.backward({
    inputs: { logits, targets: cut(inputs.targets, chunk) },
    outputs: { loss, losses: cut(all, chunk) },
    saved: { logSumExp: cut(logSumExp, chunk), inverseCount: one },
    options,
    gradOutputs: { loss: one },
    gradInputs: { logits: gradLogits },
  });
  addProducts(inputs, chunk, gradLogits, { x: gradX, weight: gradWeight });
  gradLogits.dispose();
  one.dispose();
}

/** grad.x += G W; grad.weight += Gᵀ x, where G is the gradient of the logits, in the element type of x. */
export function backwardByChunks(call: Backward, losses: Losses): void {
  const { inputs, saved, options, gradOutputs, gradInputs } = call;
  const { x, weight, targets } = inputs;
  if (!gradOutputs.loss && !gradOutputs.losses) return;
  if (saved.gradX && gradOutputs.loss && !gradOutputs.losses) {
    for (const [from, to] of [[saved.gradX, gradInputs.x] as const, [saved.gradWeight, gradInputs.weight] as const])
      if (to) losses.addScaled!(to, from, gradOutputs.loss, saved.inverseCount);
    return;
  }
  for (const chunk of chunksOf(inputs)) {
    const logits = saved.logits ?? emptyTensor(x.backend, [chunk.count, weight.rows]);
    if (!saved.logits) storeLogits(inputs, chunk, logits);
    const gradLogits = zeros(x.backend, logits.shape, x.dtype);
    losses.backward({
      inputs: { logits, targets: cut(targets, chunk) },
      outputs: { loss: call.outputs.loss, losses: cut(call.outputs.losses, chunk) },
      saved: { logSumExp: cut(saved.logSumExp, chunk), inverseCount: saved.inverseCount },
      options,
      gradOutputs: { loss: gradOutputs.loss, losses: gradOutputs.losses && cut(gradOutputs.losses, chunk) },
      gradInputs: { logits: gradLogits },
    });
    if (!saved.logits) logits.dispose();
    addProducts(inputs, chunk, gradLogits, gradInputs);
    gradLogits.dispose();
  }
}

/** grad.x += G W for the rows of a chunk; grad.weight += Gᵀ x. */
function addProducts(
  { x, weight }: LinearCrossEntropyInputs,
  { first, count }: Chunk,
  gradLogits: Tensor,
  grads: { readonly x?: Tensor | undefined; readonly weight?: Tensor | undefined },
): void {
  runBackward(linear, {
    inputs: { x: x.rowsOf(first, count), weight },
    outputs: { y: gradLogits },
    saved: {},
    options: {},
    gradOutputs: { y: gradLogits },
    gradInputs: { x: grads.x?.rowsOf(first, count), weight: grads.weight },
  });
}

interface Chunk {
  readonly first: number;
  readonly count: number;
}

/** The chunks follow from the shapes alone, so that sums over rows have the same bits in every run. */
function chunksOf({ x, weight }: LinearCrossEntropyInputs): Chunk[] {
  const most = rowsPerChunk(x.backend, weight);
  return Array.from({ length: Math.ceil(x.rows / most) }, (_, i) => ({
    first: i * most,
    count: Math.min(most, x.rows - i * most),
  }));
}

/** On a GPU a chunk fits one binding, so that no kernel must cut it again. */
function rowsPerChunk(backend: Backend, weight: Tensor): number {
  const most = backend.name === "webgpu" ? (backend as WebGpuBackend).maxBindingBytes : Infinity;
  const bytes = Math.min(LOGIT_BYTES[backend.name], most);
  return Math.max(1, Math.floor(bytes / (BYTES_PER_ELEMENT.f32 * weight.rows * ROWS))) * ROWS;
}

function storeLogits({ x, weight }: LinearCrossEntropyInputs, { first, count }: Chunk, logits: Tensor): void {
  const inputs = { x: x.rowsOf(first, count), weight };
  runForward(linear, { inputs, outputs: { y: logits }, saved: undefined, options: { dtype: "f32" } });
}

/** Numbers of a chunk's positions, of a tensor that has one a position. */
function cut(tensor: Tensor, { first, count }: Chunk): Tensor {
  return tensor.reshape([tensor.size, 1]).rowsOf(first, count).reshape([count]);
}
