// selectiveScan on the WASM backend: binds kernels/assembly/scan.ts and scan-backward.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ScanInputs, ScanOptions, ScanOutputs } from "./index.ts";

/** Channels times steps below which one thread is quicker alone. */
const SERIAL_STEPS = 1 << 8;
/** Items of the backward pass, at least, where there are so many quads of channels: a multiple of the likely threads. */
const BACKWARD_ITEMS = 16;

export function forward(call: ForwardCall<ScanInputs, ScanOutputs, ScanOptions>, backend: WasmBackend): void {
  const { inputs, outputs, saved, options } = call;
  const args = [...commonArgs(inputs, saved?.chunkStarts, options), ...place(outputs.y), ...place(outputs.finalState)];
  backend.dispatch("scan", args, inputs.x.size < SERIAL_STEPS);
}

/** Two kernels: gradients by shares of the channels, then the sums over shares and sequences, always in one order. */
export function backward(call: BackwardCall<ScanInputs, ScanOutputs, ScanOptions>, backend: WasmBackend): void {
  const { inputs, outputs, saved, options, gradOutputs, gradInputs } = call;
  const { groups = 1 } = options;
  const [batch, length, dInner] = inputs.x.shape;
  const dState = inputs.A.columns;
  const paddedState = Math.ceil(dState / 4) * 4;
  const shares = sharesOfGroup(dInner / groups, batch * groups);
  const sumsBC = backend.allocate("f32", shares * batch * length * 2 * groups * dState);
  const sumsOfChannels = backend.allocate("f32", batch * dInner * (2 * paddedState + 4));
  const { x, dtRaw, A, B, C, D, dtBias, z, initialState } = gradInputs;
  const args = [
    ...commonArgs(inputs, saved.chunkStarts, options),
    ...[outputs.y, outputs.finalState, gradOutputs.y, gradOutputs.finalState, x, dtRaw, A, B, C].flatMap(place),
    pointer(D),
    pointer(dtBias),
    ...[z, initialState].flatMap(place),
    shares,
    sumsBC.pointer,
    sumsOfChannels.pointer,
  ];
  const isSmall = inputs.x.size < SERIAL_STEPS;
  backend.dispatch("scanBackward", args, isSmall);
  backend.dispatch("scanReduce", args, isSmall);
  backend.release(sumsBC);
  backend.release(sumsOfChannels);
}

/** Into how many shares a group's channels are cut. Never by the number of threads, on which no sum may depend. */
function sharesOfGroup(channels: number, sequencesAndGroups: number): number {
  const quads = Math.ceil(channels / 4);
  const wanted = Math.min(quads, Math.ceil(BACKWARD_ITEMS / sequencesAndGroups));
  return Math.ceil(quads / Math.ceil(quads / wanted));
}

function commonArgs(
  inputs: ScanInputs,
  chunkStarts: Tensor | undefined,
  { softplus = true, groups = 1 }: ScanOptions,
): number[] {
  const { x, dtRaw, A, B, C, D, dtBias, z, initialState, documentStarts } = inputs;
  const [batch, length, dInner] = x.shape;
  return [
    ...[x, dtRaw, A, B, C].flatMap(place),
    pointer(D),
    pointer(dtBias),
    ...[z, initialState, documentStarts].flatMap(place),
    pointer(chunkStarts),
    batch,
    length,
    dInner,
    A.columns,
    groups,
    softplus ? 1 : 0,
  ];
}

/** Address and row stride; 0, 0 for none. */
function place(tensor: Tensor | undefined): [number, number] {
  return [pointer(tensor), tensor?.rowStride ?? 0];
}
