// s4dScan on the WebGPU backend: cuts what is larger than a binding, chooses chunks, dispatches. See README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { copyOf, emptyTensor, zeros } from "../../tensor/tensor.ts";
import { addSkipGradient } from "../fft-convolution/webgpu-skip.ts";
import { addGradients, CHANNELS, discretize, LANES } from "../s4d-kernel/webgpu-parameters.ts";
import { addPartialSums } from "../webgpu-column-sums.ts";
import { gradientUse } from "../webgpu-elements.ts";
import { CHUNK } from "./chunk.ts";
import type { S4dScanInputs, S4dScanOutputs } from "./index.ts";
import { s4dScanBackward } from "./webgpu-backward.ts";
import type { StateSource } from "./webgpu-forward.ts";
import { s4dScanChunks, s4dScanEnds, s4dScanForward } from "./webgpu-forward.ts";
import type { Piece } from "./webgpu-pieces.ts";
import { chunksOf, piecesOf, savedOf, startsOf, statesOf, threadPairs, tokensOf } from "./webgpu-pieces.ts";

type Forward = ForwardCall<S4dScanInputs, S4dScanOutputs, object>;
type Backward = BackwardCall<S4dScanInputs, S4dScanOutputs, object>;

/** @param chunks into which time is cut, for tests; default: as many as fill the GPU */
export function forward(call: Forward, backend: WebGpuBackend, chunks?: number): void {
  const { inputs, outputs } = call;
  scope(() => {
    const discrete = discretize(backend, inputs);
    for (const piece of piecesOf(backend, [inputs.x, outputs.y], sizesOf(inputs)))
      scope(() => forwardPiece(call, backend, piece, discrete, chunks));
  });
}

/** @param chunks as in {@link forward} */
export function backward(call: Backward, backend: WebGpuBackend, chunks?: number): void {
  const { inputs, gradInputs, gradOutputs } = call;
  const { channels, pairs } = sizesOf(inputs);
  const tensors = [inputs.x, gradOutputs.y, gradInputs.x].filter((tensor) => tensor !== undefined);
  scope(() => {
    const discrete = discretize(backend, inputs);
    const sums = zeros(backend, [6 * pairs * channels]);
    let behind: Tensor | undefined;
    for (const piece of piecesOf(backend, tensors, sizesOf(inputs)).toReversed())
      behind = backwardPiece(call, backend, { piece, discrete, sums, behind, chunks });
    addGradients(backend, { of: "scan", discrete, sums, grads: gradInputs });
    if (gradInputs.D && gradOutputs.y) addSkipGradient(backend, inputs.x, gradOutputs.y, gradInputs.D);
  });
}

function sizesOf({ x, A_imag }: S4dScanInputs): { batch: number; length: number; channels: number; pairs: number } {
  const [batch, length, channels] = x.shape;
  return { batch, length, channels, pairs: A_imag.columns };
}

function forwardPiece(
  { inputs, outputs, saved }: Forward,
  backend: WebGpuBackend,
  piece: Piece,
  discrete: Tensor,
  wanted: number | undefined,
): void {
  const sizes = sizesOf(inputs);
  const { chunks, chunkSteps } = chunksOf(backend, piece, sizes, wanted);
  const x = tokensOf(inputs.x, piece);
  const y = tokensOf(outputs.y, piece);
  const starts = startsOf(inputs.documentStarts, piece);
  const final_state = statesOf(outputs.finalState, piece);
  const initial = piece.step > 0 ? final_state : statesOf(inputs.initialState, piece);
  const states = savedOf(saved?.chunkStarts, piece, sizes.length);
  const params = { ...paramsOf(sizes, piece), chunk_steps: chunkSteps, chunks };
  const ofStates =
    chunks === 1
      ? statesBefore(initial, final_state)
      : statesOfChunks(backend, { discrete, x, starts, initial, isReversed: false, params, piece });
  const kernel = s4dScanForward({
    pairs: threadPairs(sizes.pairs),
    x: x.dtype,
    y: y.dtype,
    start: ofStates.start,
    hasD: inputs.D !== undefined,
    hasStarts: starts !== undefined,
    saves: states !== undefined,
  });
  const buffers = {
    discrete,
    x,
    y,
    final_state,
    ...(starts && { document_starts: starts }),
    ...(states && { saved: states }),
    ...ofStates.buffers,
  };
  const groups = [Math.ceil(sizes.channels / CHANNELS), chunks, piece.sequences] as const;
  backend.dispatch(kernel, buffers, params, groups);
}

interface StatesBefore {
  readonly start: StateSource;
  readonly buffers: { readonly [name: string]: Tensor };
}

/** Where a kernel that takes all steps finds the initial state: one buffer cannot be bound twice. */
function statesBefore(initial: Tensor | undefined, final: Tensor): StatesBefore {
  if (!initial) return { start: "zero", buffers: {} };
  if (initial.storage !== final.storage) return { start: "initial", buffers: { initial_state: initial } };
  if (initial.offset === final.offset && initial.rowStride === final.rowStride)
    return { start: "inPlace", buffers: {} };
  return { start: "initial", buffers: { initial_state: copyOf(initial) } };
}

interface ChunksCall {
  readonly discrete: Tensor;
  /** x, or in reverse grad.y; undefined: zeros. */
  readonly x: Tensor | undefined;
  readonly starts: Tensor | undefined;
  readonly initial: Tensor | undefined;
  readonly isReversed: boolean;
  readonly params: ReturnType<typeof paramsOf> & { readonly chunk_steps: number; readonly chunks: number };
  readonly piece: Piece;
}

/** The states before all chunks, or what comes back to them: what each leaves from zero, then along the chunks. */
function statesOfChunks(
  backend: WebGpuBackend,
  { discrete, x, starts, initial, isReversed, params, piece }: ChunksCall,
): StatesBefore {
  const { channels, pairs, chunks } = params;
  const count = piece.sequences * chunks;
  // Without an x nothing is left behind, but documents still end what comes back: an x of zeros tells.
  const input = x ?? zeros(backend, [piece.sequences, piece.steps, channels]);
  const chunk_states = emptyTensor(backend, [count, 2 * pairs * channels]);
  const kept = emptyTensor(backend, [count]);
  backend.dispatch(
    s4dScanEnds({ pairs: threadPairs(pairs), x: input.dtype, hasStarts: starts !== undefined, isReversed }),
    { discrete, x: input, chunk_states, kept, ...(starts && { document_starts: starts }) },
    params,
    [Math.ceil(channels / CHANNELS), chunks, piece.sequences],
  );
  backend.dispatch(
    s4dScanChunks({ hasInitial: initial !== undefined, isReversed }),
    { discrete, kept, chunk_states, ...(initial && { initial_state: initial }) },
    params,
    [Math.ceil(channels / CHANNELS), Math.ceil(pairs / LANES), piece.sequences],
  );
  return { start: "chunks", buffers: { chunk_states } };
}

function paramsOf(
  { channels, pairs }: { channels: number; pairs: number },
  { steps }: Piece,
): { channels: number; pairs: number; length: number; save_every: number; saved_chunks: number } {
  return { channels, pairs, length: steps, save_every: CHUNK, saved_chunks: Math.ceil(steps / CHUNK) };
}

interface BackwardPiece {
  readonly piece: Piece;
  readonly discrete: Tensor;
  readonly sums: Tensor;
  /** The gradient of the state behind this piece, where a piece lies behind it. */
  readonly behind: Tensor | undefined;
  readonly chunks: number | undefined;
}

/** @returns the gradient of the state before this piece, where a piece lies before it */
function backwardPiece(
  { inputs, saved, gradInputs, gradOutputs }: Backward,
  backend: WebGpuBackend,
  { piece, discrete, sums, behind, chunks: wanted }: BackwardPiece,
): Tensor | undefined {
  const sizes = sizesOf(inputs);
  const { channels, pairs } = sizes;
  const { chunks, chunkSteps } = chunksOf(backend, piece, sizes, wanted);
  const [x, gradY, grad_x] = [inputs.x, gradOutputs.y, gradInputs.x].map((tensor) => tokensOf(tensor, piece));
  const starts = startsOf(inputs.documentStarts, piece);
  const isLast = piece.step + piece.steps === sizes.length;
  const final = isLast ? statesOf(gradOutputs.finalState, piece) : behind;
  const before = piece.step > 0 ? emptyTensor(backend, [1, channels, 2 * pairs]) : undefined;
  const grad_initial = before ?? statesOf(gradInputs.initialState, piece);
  const params = { ...paramsOf(sizes, piece), chunk_steps: chunkSteps, chunks };
  const partials = emptyTensor(backend, [piece.sequences * chunks, 6 * pairs * channels]);
  const ofStates =
    chunks > 1
      ? statesOfChunks(backend, { discrete, x: gradY, starts, initial: final, isReversed: true, params, piece }).buffers
      : undefined;
  const kernel = s4dScanBackward({
    pairs: threadPairs(pairs),
    x: inputs.x.dtype,
    gradY: gradY?.dtype,
    end: ofStates ? "chunks" : final ? "final" : "zero",
    gradX: gradientUse(backend, grad_x),
    gradInitial: before ? "write f32" : gradientUse(backend, grad_initial),
    hasD: inputs.D !== undefined,
    hasStarts: starts !== undefined,
  });
  const buffers = {
    discrete,
    x: x!,
    saved: savedOf(saved.chunkStarts, piece, sizes.length),
    partials,
    ...(gradY && { grad_y: gradY }),
    ...(starts && { document_starts: starts }),
    ...(final && !ofStates && { grad_final: final }),
    ...ofStates,
    ...(grad_x && { grad_x }),
    ...(grad_initial && { grad_initial }),
  };
  const groups = [Math.ceil(channels / CHANNELS), chunks, piece.sequences] as const;
  backend.dispatch(kernel, buffers, params, groups);
  addPartialSums(backend, partials, sums);
  return before;
}
