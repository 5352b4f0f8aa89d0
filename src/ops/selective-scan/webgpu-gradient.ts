// selectiveScan backward on the WebGPU backend: pieces from the right to the left, then the sums over workgroups.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall } from "../../tensor/define-op.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { emptyTensor, zeros } from "../../tensor/tensor.ts";
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
import { mostPackedRows, packScan } from "./webgpu-pack.ts";
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

/** The gradients that one kernel writes, by its names of their buffers; in the order in which `grads` holds them. */
const TARGETS = ["grad_x", "grad_dt_raw", "grad_z"] as const;
/** Buffers of the kernel beside its targets. */
const OTHER_BUFFERS = 7;

/** Pieces from the last to the first; each hands the gradient of the state before it to the one on its left. */
export function backward(call: Call, backend: WebGpuBackend, wanted: WantedPlan = {}): void {
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
  // Half of a binding for what there is once a chunk, half for the sums of B and C.
  const stateSize = 2 * dInner * (8 * stepVectors + 2);
  const mostRows = Math.floor(
    Math.min(
      Math.min(backend.maxBindingBytes / 2, MOST_PARTIAL_BYTES) / (32 * stepVectors * groups * blocks),
      mostPackedRows(backend, { dInner, groups, stepVectors }),
      (backend.maxBindingBytes - 512) / (3 * dInner * BYTES_PER_ELEMENT[x.dtype]),
    ),
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
    const from = isLast ? statesOf(gradOutputs.finalState, piece) : after;
    const isFirst = piece.step === 0;
    const before = isFirst ? statesOf(gradInputs.initialState, piece) : zeros(backend, [dInner, dState]);
    const sizes = { plan, dInner, dState, groups, stepVectors, blocks };
    runPiece(call, backend, piece, sizes, { from, before });
    after?.dispose();
    after = isFirst ? undefined : before;
  }
}

/** Adds the gradients before the first chunks of all sequences, whose rows are padded, to those of the states there. */
function addBefore(
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

/** Where the parts of `partials` begin; those of grad.B and grad.C at 0. */
type PartialPlaces = Readonly<Record<"A_sums_at" | "channel_sums_at" | "carried_at", number>>;

/** Scratch memory for what is summed over workgroups, and for q before each chunk: `carried`, a view of it. */
function makePartials(
  backend: WebGpuBackend,
  piece: ScanPiece,
  { plan, dInner, groups, stepVectors, blocks }: Sizes,
): { partials: Tensor; carried: Tensor; places: PartialPlaces } {
  const rows = piece.sequences * piece.steps;
  const chunkRows = piece.sequences * plan.chunks;
  const carriedSize = chunkRows * dInner * 4 * stepVectors;
  const A_sums_at = groups * blocks * rows * 8 * stepVectors;
  const channel_sums_at = A_sums_at + carriedSize;
  const carried_at = channel_sums_at + chunkRows * 2 * dInner;
  const partials = emptyTensor(backend, [carried_at + carriedSize, 1]);
  const carried = partials.rowsOf(carried_at, carriedSize).reshape([chunkRows * dInner, 4 * stepVectors]);
  return { partials, carried, places: { A_sums_at, channel_sums_at, carried_at } };
}

/** All gradients of a piece. `from` is the gradient of the state behind it; that of the state before is added to `before`. */
function runPiece(
  call: Call,
  backend: WebGpuBackend,
  piece: ScanPiece,
  sizes: Sizes,
  { from, before }: { from: Tensor | undefined; before: Tensor | undefined },
): void {
  const { plan, dInner, dState, groups, stepVectors, blocks } = sizes;
  const { chunks, chunkSteps, ...layout } = plan;
  const sums = emptyTensor(backend, [piece.sequences * chunks * (dInner + 1)]);
  const { partials, carried, places: partialPlaces } = makePartials(backend, piece, sizes);
  const given = buffersOf(call, piece);
  const { packed, places } = packScan(backend, given, piece, sizes);
  const { targets, grads } = targetsOf(backend, given);
  const buffers: Buffers = { ...given, ...present({ initial_state: from, grads }), packed, sums, partials };
  const kind = kindOf(buffers, dState, dInner / groups, call.options.softplus ?? true);
  const base = { ...layout, ...kind, saveEvery: SAVE_EVERY };
  const params = {
    ...places,
    ...partialPlaces,
    batch: piece.sequences,
    length: piece.steps,
    d_inner: dInner,
    d_state: dState,
    group_channels: dInner / groups,
    group_blocks: blocks,
    chunk_steps: chunkSteps,
    chunks,
    chunk_starts: Math.ceil(piece.steps / SAVE_EVERY),
    once: 1,
  };
  const hasGradY = buffers.grad_y !== undefined;
  const none = { gradX: "none", gradDt: "none", gradZ: "none" } as const;
  const run = (spec: BackwardSpec): void =>
    backend.dispatch(scanBackward(spec), buffers, params, [groups * blocks, chunks, piece.sequences]);
  if (chunks > 1) run({ ...base, ...none, hasGradY, pass: "ends" });
  backend.dispatch(
    scanChunks({ stepVectors, hasInitial: from !== undefined, hasStarts: kind.hasStarts, isReversed: true }),
    { ...buffers, chunk_states: carried },
    params,
    [Math.ceil((dInner * stepVectors * 4) / CHUNKS_WORKGROUP), piece.sequences],
  );
  run({ ...base, ...targets, hasGradY, pass: "all" });
  addPartials(call, backend, piece, sizes, partials, partialPlaces);
  if (before) addBefore(backend, carried, { sequences: piece.sequences, dInner, chunks }, before);
  if (grads) addGrads(backend, grads, given);
  for (const tensor of [packed, sums, partials]) tensor.dispose();
  grads?.dispose();
}

/**
 * How the gradients of x, dtRaw and z are written: at once where the device binds so many buffers and no two lie in one;
 * else into a scratch tensor `grads`, `[rows, 3 dInner]`, to be added afterwards.
 */
function targetsOf(
  backend: WebGpuBackend,
  buffers: Buffers,
): { targets: Pick<BackwardSpec, "gradX" | "gradDt" | "gradZ">; grads: Tensor | undefined } {
  const wanted = TARGETS.flatMap((name) => buffers[name] ?? []);
  const isApart = new Set(wanted.map(({ storage }) => storage)).size === wanted.length;
  const most = backend.device.limits.maxStorageBuffersPerShaderStage;
  const isJoined = !isApart || OTHER_BUFFERS + wanted.length > most;
  const target = (to: Tensor | undefined): Target => {
    if (!to) return "none";
    if (isJoined) return "joined";
    return backend.hasContent(to) ? "add" : "write";
  };
  return {
    targets: { gradX: target(buffers.grad_x), gradDt: target(buffers.grad_dt_raw), gradZ: target(buffers.grad_z) },
    grads: isJoined ? emptyTensor(backend, [buffers.x.rows, 3 * buffers.x.columns], buffers.x.dtype) : undefined,
  };
}

/** Adds what the kernel left in `grads` to the gradients. */
function addGrads(backend: WebGpuBackend, grads: Tensor, buffers: Buffers): void {
  for (const [i, name] of TARGETS.entries()) {
    const to = buffers[name];
    if (to) addTo(backend, grads.columnsOf(i * to.columns, (i + 1) * to.columns), to);
  }
}

/** The sums over blocks of channels for B and C, over sequences and chunks for A, D and dtBias. */
function addPartials(
  { inputs, gradInputs }: Call,
  backend: WebGpuBackend,
  piece: ScanPiece,
  { plan, dInner, dState, stepVectors, blocks }: Sizes,
  partials: Tensor,
  { A_sums_at, channel_sums_at }: PartialPlaces,
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
    // Without a gradient of y there is none.
    grad_z: gradOutputs.y && token(gradInputs.z),
  });
}
