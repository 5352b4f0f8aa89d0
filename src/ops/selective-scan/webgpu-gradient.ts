// selectiveScan backward on the WebGPU backend: pieces from the right to the left, then the sums over workgroups.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall } from "../../tensor/define-op.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { addTo } from "../add/webgpu.ts";
import type { ScanInputs, ScanOptions, ScanOutputs } from "./index.ts";
import type { BackwardSpec, Target } from "./webgpu-backward.ts";
import { scanBackward } from "./webgpu-backward.ts";
import type { WantedPlan } from "./webgpu-choice.ts";
import { chooseBackward, lanesOf, mostChunksOf, SAVE_EVERY } from "./webgpu-choice.ts";
import { CHUNKS_WORKGROUP, scanChunks } from "./webgpu-chunks.ts";
import type { Buffers } from "./webgpu-kind.ts";
import { kindOf, present } from "./webgpu-kind.ts";
import { stateThreads } from "./webgpu-layout.ts";
import type { ScanPiece } from "./webgpu-pieces.ts";
import { cutScan, savedOf, startsOf, statesOf, tokensOf } from "./webgpu-pieces.ts";
import { addSums } from "./webgpu-sums.ts";

type Call = BackwardCall<ScanInputs, ScanOutputs, ScanOptions>;
type Plan = ReturnType<typeof chooseBackward>;

/** Bytes of partial sums of grad.B and grad.C at the most: longer sequences go in pieces. */
const MOST_PARTIAL_BYTES = 2 ** 28;

/** Sizes of one piece, as kernels count them. */
interface Sizes {
  readonly plan: Plan;
  readonly dInner: number;
  readonly dState: number;
  readonly groups: number;
  /** Vectors of four that the states of a channel, or B of a step, take in scratch memory. */
  readonly stepVectors: number;
  /** Blocks of channels in a group. */
  readonly blocks: number;
}

export function backward(call: Call, backend: WebGpuBackend, wanted: WantedPlan = {}): void {
  const { inputs, gradInputs } = call;
  // One kernel writes the gradients of x, dtRaw and z. Those that share memory with another are added afterwards.
  const shared: { from: Tensor; to: Tensor }[] = [];
  const used = new Set<unknown>();
  const own = (to: Tensor | undefined, like: Tensor | undefined): Tensor | undefined => {
    if (!to || !like) return undefined;
    if (!used.has(to.storage)) {
      used.add(to.storage);
      return to;
    }
    const from = emptyTensor(backend, like.shape, like.dtype);
    backend.clear(from.storage);
    shared.push({ from, to });
    return from;
  };
  const targets = {
    x: own(gradInputs.x, inputs.x),
    dtRaw: own(gradInputs.dtRaw, inputs.dtRaw),
    z: call.gradOutputs.y && own(gradInputs.z, inputs.z),
  };
  runPieces({ ...call, gradInputs: { ...gradInputs, ...targets } }, backend, wanted);
  for (const { from, to } of shared) {
    addTo(backend, from, to);
    from.dispose();
  }
}

/** Pieces from the last to the first; what one hands to the one on its left is its `carried`. */
function runPieces(call: Call, backend: WebGpuBackend, wanted: WantedPlan): void {
  const { inputs, options, gradOutputs, gradInputs } = call;
  const { x, dtRaw, A, B, C, z } = inputs;
  const [batch, length, dInner] = x.shape;
  const dState = A.columns;
  const { groups = 1 } = options;
  const bytes = backend.device.limits.maxComputeWorkgroupStorageSize;
  const shape = {
    sequences: batch,
    steps: length,
    dInner,
    dState,
    groups,
    mostChunks: 1,
    isSoftware: backend.about.isSoftware,
    lanes: lanesOf(backend),
  };
  const { channels, vectors } = chooseBackward(shape, bytes, wanted);
  const stepVectors = stateThreads({ dState, vectors }) * vectors;
  const blocks = Math.ceil(dInner / groups / channels);
  // Half of a binding for sums along time, half for those of B and C.
  const stateSize = 2 * dInner * (4 * stepVectors + 2);
  const mostRows = Math.floor(
    Math.min(backend.maxBindingBytes / 2, MOST_PARTIAL_BYTES) / (32 * stepVectors * groups * blocks),
  );
  const { y } = gradOutputs;
  const tokens = [x, dtRaw, B, C, z, y, gradInputs.x, gradInputs.dtRaw, gradInputs.z, gradInputs.B, gradInputs.C];
  const cut = { batch, length, stateSize, saveEvery: SAVE_EVERY, isSaving: true, mostRows };
  const pieces = cutScan(backend, tokens, cut);
  let after: Tensor | undefined;
  for (const piece of pieces.toReversed()) {
    const mostChunks = mostChunksOf(backend, piece.sequences, stateSize);
    const plan = chooseBackward(
      { ...shape, sequences: piece.sequences, steps: piece.steps, mostChunks },
      bytes,
      wanted,
    );
    const isLast = piece.step + piece.steps === length;
    const from = isLast ? statesOf(gradOutputs.finalState, piece) : after?.rowsOf(0, dInner).columnsOf(0, dState);
    const sizes = { plan, dInner, dState, groups, stepVectors, blocks };
    const carried = runPiece(call, backend, piece, sizes, from);
    after?.dispose();
    after = carried;
    const initial = piece.step === 0 ? statesOf(gradInputs.initialState, piece) : undefined;
    if (initial) addInitial(backend, carried, { sequences: piece.sequences, dInner, chunks: plan.chunks }, initial);
  }
  after?.dispose();
}

/** Adds the gradients before the first chunks of all sequences, whose rows are padded, to those of the initial states. */
function addInitial(
  backend: WebGpuBackend,
  carried: Tensor,
  { sequences, dInner, chunks }: { sequences: number; dInner: number; chunks: number },
  to: Tensor,
): void {
  for (let i = 0; i < sequences; i++) {
    const from = carried.rowsOf(i * chunks * dInner, dInner).columnsOf(0, to.columns);
    addTo(backend, from, to.rowsOf(i * dInner, dInner));
  }
}

/** All gradients of a piece. `from` is the gradient of the state behind it; returns those before its chunks. */
function runPiece(
  call: Call,
  backend: WebGpuBackend,
  piece: ScanPiece,
  sizes: Sizes,
  from: Tensor | undefined,
): Tensor {
  const { plan, dInner, dState, groups, stepVectors, blocks } = sizes;
  const { chunks, chunkSteps, ...layout } = plan;
  const rows = piece.sequences * piece.steps;
  const chunkRows = piece.sequences * chunks;
  const carried = emptyTensor(backend, [chunkRows * dInner, 4 * stepVectors]);
  const sums = emptyTensor(backend, [chunkRows * (dInner + 1)]);
  const A_sums_at = groups * blocks * rows * 8 * stepVectors;
  const channel_sums_at = A_sums_at + chunkRows * dInner * 4 * stepVectors;
  const partials = emptyTensor(backend, [channel_sums_at + chunkRows * 2 * dInner]);
  const buffers: Buffers = {
    ...buffersOf(call, piece),
    ...present({ initial_state: from }),
    carried,
    chunk_states: carried,
    sums,
    partials,
  };
  const kind = kindOf(buffers, dState, dInner / groups, call.options.softplus ?? true);
  const target = (name: string): Target =>
    buffers[name] ? (backend.hasContent(buffers[name]) ? "add" : "write") : "none";
  const base = { ...layout, ...kind, saveEvery: SAVE_EVERY };
  const params = {
    batch: piece.sequences,
    length: piece.steps,
    d_inner: dInner,
    group_channels: dInner / groups,
    group_blocks: blocks,
    chunk_steps: chunkSteps,
    chunks,
    chunk_starts: Math.ceil(piece.steps / SAVE_EVERY),
    A_sums_at,
    channel_sums_at,
    once: 1,
  };
  const hasGradY = buffers.grad_y !== undefined;
  const none = { gradX: "none", gradDt: "none", gradZ: "none" } as const;
  const targets = { gradX: target("grad_x"), gradDt: target("grad_dt_raw"), gradZ: target("grad_z") };
  const run = (spec: BackwardSpec): void =>
    backend.dispatch(scanBackward(spec), buffers, params, [groups * blocks, chunks, piece.sequences]);
  if (chunks > 1) run({ ...base, ...none, hasGradY, pass: "ends" });
  backend.dispatch(
    scanChunks({ dState, stepVectors, hasInitial: from !== undefined, hasStarts: kind.hasStarts, isReversed: true }),
    buffers,
    params,
    [Math.ceil((dInner * stepVectors * 4) / CHUNKS_WORKGROUP), piece.sequences],
  );
  run({ ...base, ...targets, hasGradY, pass: "all" });
  addPartials(call, backend, piece, sizes, partials, { A_sums_at, channel_sums_at });
  sums.dispose();
  partials.dispose();
  return carried;
}

/** The sums over blocks of channels for B and C, over sequences and chunks for A, D and dtBias. */
function addPartials(
  { inputs, gradInputs }: Call,
  backend: WebGpuBackend,
  piece: ScanPiece,
  { plan, dInner, dState, stepVectors, blocks }: Sizes,
  partials: Tensor,
  { A_sums_at, channel_sums_at }: { A_sums_at: number; channel_sums_at: number },
): void {
  const rows = piece.sequences * piece.steps;
  const count = piece.sequences * plan.chunks;
  const rowStep = 8 * stepVectors;
  const blockStep = rows * rowStep;
  for (const [i, to] of [gradInputs.B, gradInputs.C].entries())
    if (to)
      addSums(backend, partials, tokensOf(to, piece, inputs.x.shape[1]), {
        start: i * 4 * stepVectors,
        width: dState,
        groupStep: blocks * blockStep,
        rowStep,
        sumStep: blockStep,
        count: blocks,
      });
  if (gradInputs.A)
    addSums(backend, partials, gradInputs.A, {
      start: A_sums_at,
      width: dState,
      groupStep: 0,
      rowStep: 4 * stepVectors,
      sumStep: dInner * 4 * stepVectors,
      count,
    });
  for (const [i, to] of [gradInputs.D, gradInputs.dtBias].entries())
    if (to)
      addSums(backend, partials, to, {
        start: channel_sums_at + i * dInner,
        width: dInner,
        groupStep: 0,
        rowStep: 0,
        sumStep: 2 * dInner,
        count,
      });
}

function buffersOf({ inputs, saved, gradOutputs, gradInputs }: Call, piece: ScanPiece): Buffers {
  const length = inputs.x.shape[1];
  const token = <T extends Tensor | undefined>(tensor: T): T => tokensOf(tensor, piece, length);
  return present({
    x: token(inputs.x),
    dt_raw: token(inputs.dtRaw),
    B: token(inputs.B),
    C: token(inputs.C),
    z: token(inputs.z),
    A: inputs.A,
    D: inputs.D,
    dt_bias: inputs.dtBias,
    document_starts: startsOf(inputs.documentStarts, piece),
    saved_states: savedOf(saved.chunkStarts, piece, SAVE_EVERY),
    grad_y: token(gradOutputs.y),
    grad_x: token(gradInputs.x),
    grad_dt_raw: token(gradInputs.dtRaw),
    grad_z: token(gradInputs.z),
  });
}
