// selectiveScan forward on the WebGPU backend: cuts what is larger than a binding, chooses layouts, dispatches.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ScanInputs, ScanOptions, ScanOutputs } from "./index.ts";
import type { ScanPlan, WantedPlan } from "./webgpu-choice.ts";
import { chooseForward, mostChunksOf, SAVE_EVERY } from "./webgpu-choice.ts";
import { CHUNKS_WORKGROUP, scanChunks } from "./webgpu-chunks.ts";
import type { ForwardSpec } from "./webgpu-forward.ts";
import { scanForward } from "./webgpu-forward.ts";
import type { Buffers } from "./webgpu-kind.ts";
import { kindOf, present } from "./webgpu-kind.ts";
import { stateThreads } from "./webgpu-layout.ts";
import { mostPackedRows, packScan } from "./webgpu-pack.ts";
import type { ScanPiece } from "./webgpu-pieces.ts";
import { cutScan, savedOf, startsOf, statesOf, tokensOf } from "./webgpu-pieces.ts";

export { backward } from "./webgpu-gradient.ts";

type Call = ForwardCall<ScanInputs, ScanOutputs, ScanOptions>;

/** One pass over time where there are threads enough; else three: what each chunk leaves behind, a scan over chunks, each chunk from its true start. */
export function forward(call: Call, backend: WebGpuBackend, wanted: WantedPlan = {}): void {
  const { inputs, outputs, saved, options } = call;
  const { x, dtRaw, A, B, C, z } = inputs;
  const [batch, length, dInner] = x.shape;
  const { groups = 1 } = options;
  // Whole vectors for as many states as a thread holds at the most.
  const stepVectors = 4 * Math.ceil(A.columns / 16);
  const stateSize = dInner * stepVectors * 4;
  const mostRows = mostPackedRows(backend, { dInner, groups, stepVectors });
  const cut = { batch, length, stateSize, saveEvery: SAVE_EVERY, isSaving: saved !== undefined, mostRows };
  for (const piece of cutScan(backend, [x, dtRaw, B, C, z, outputs.y], cut)) {
    const plan = chooseForward(
      {
        sequences: piece.sequences,
        steps: piece.steps,
        dInner,
        dState: A.columns,
        groups,
        isSoftware: backend.about.isSoftware,
        lanes: 0,
        mostChunks: mostChunksOf(backend, piece.sequences, stateSize),
      },
      wanted,
    );
    forwardPiece(call, backend, piece, plan);
  }
}

function forwardPiece(call: Call, backend: WebGpuBackend, piece: ScanPiece, plan: ScanPlan): void {
  const { inputs, options } = call;
  const buffers = buffersOf(call, piece);
  const { groups = 1 } = options;
  const dInner = inputs.x.shape[2];
  const kind = kindOf(buffers, inputs.A.columns, dInner / groups, options.softplus ?? true);
  const { chunks, chunkSteps, vectors, channels, ...layout } = plan;
  const base = { vectors, channels, ...layout, ...kind };
  const blocks = Math.ceil(dInner / groups / channels);
  const stepVectors = stateThreads({ dState: inputs.A.columns, vectors }) * vectors;
  const sizes = { dInner, dState: inputs.A.columns, groups, stepVectors };
  const { packed, places } = packScan(backend, buffers, piece, sizes);
  const params = {
    ...places,
    batch: piece.sequences,
    length: piece.steps,
    d_inner: dInner,
    d_state: inputs.A.columns,
    group_channels: dInner / groups,
    group_blocks: blocks,
    chunk_steps: chunkSteps,
    chunks,
    chunk_starts: Math.ceil(piece.steps / SAVE_EVERY),
    once: 1,
  };
  const run = (spec: ForwardSpec, all: Buffers, count: number): void =>
    backend.dispatch(scanForward(spec), all, params, [groups * blocks, count, piece.sequences]);
  const saveEvery = buffers.saved_states ? SAVE_EVERY : 0;
  const place = placeOfState(buffers);
  const all = { ...buffers, packed };
  if (chunks === 1 && place !== "besides") {
    run({ ...base, pass: "whole", initial: place, saveEvery }, all, 1);
    packed.dispose();
    return;
  }
  const chunk_states = emptyTensor(backend, [piece.sequences * chunks, dInner * stepVectors * 4]);
  const sums = emptyTensor(backend, [piece.sequences * chunks * (dInner + 1)]);
  const scratch = { ...all, chunk_states, sums };
  if (chunks > 1) run({ ...base, pass: "ends", initial: "zero", saveEvery: 0 }, scratch, chunks - 1);
  const hasInitial = buffers.initial_state !== undefined;
  backend.dispatch(
    scanChunks({ stepVectors, hasInitial, hasStarts: kind.hasStarts, isReversed: false }),
    scratch,
    params,
    [Math.ceil((dInner * stepVectors * 4) / CHUNKS_WORKGROUP), piece.sequences],
  );
  run({ ...base, pass: "chunks", initial: "zero", saveEvery }, scratch, chunks);
  for (const tensor of [packed, chunk_states, sums]) tensor.dispose();
}

/** The tensors of a piece. Pieces behind the first begin with the final state of the one before. */
function buffersOf({ inputs, outputs, saved }: Call, piece: ScanPiece): Buffers {
  const length = inputs.x.shape[1];
  const token = <T extends Tensor | undefined>(tensor: T): T => tokensOf(tensor, piece, length);
  const final_state = statesOf(outputs.finalState, piece);
  return present({
    x: token(inputs.x),
    dt_raw: token(inputs.dtRaw),
    B: token(inputs.B),
    C: token(inputs.C),
    z: token(inputs.z),
    y: token(outputs.y),
    A: inputs.A,
    D: inputs.D,
    dt_bias: inputs.dtBias,
    document_starts: startsOf(inputs.documentStarts, piece),
    initial_state: piece.step > 0 ? final_state : statesOf(inputs.initialState, piece),
    final_state,
    saved_states: savedOf(saved?.chunkStarts, piece, SAVE_EVERY),
  });
}

/** How one kernel can see both states: one buffer cannot be bound twice. besides: elsewhere in one buffer, so not at all. */
function placeOfState({ initial_state: initial, final_state: final }: Buffers): ForwardSpec["initial"] | "besides" {
  if (!initial) return "zero";
  if (initial.storage !== final.storage) return "read";
  return initial.offset === final.offset && initial.rowStride === final.rowStride ? "inPlace" : "besides";
}
