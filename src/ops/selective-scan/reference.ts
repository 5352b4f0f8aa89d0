// selectiveScan in float64, a channel at a time, every state kept: the specification. Formulas: README.md.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ScanInputs, ScanOptions, ScanOutputs } from "./index.ts";

/** One channel of one sequence: its scalars by time, and where its states and its group's B and C lie. */
interface Lane {
  readonly inputs: ScanInputs;
  readonly sequence: number;
  readonly channel: number;
  readonly length: number;
  readonly dState: number;
  /** First column of the channel's group in B and C. */
  readonly group: number;
  readonly softplus: boolean;
}

export function forward({ inputs, outputs, options }: ForwardCall<ScanInputs, ScanOutputs, ScanOptions>): void {
  forEachLane(inputs, options, (lane) => {
    const { sequence, channel, length, dState } = lane;
    const states = runStates(lane);
    for (let t = 0; t < length; t++)
      set(
        outputs.y,
        sequence * length + t,
        channel,
        preGate(lane, states[t + 1], t) * (inputs.z ? silu(token(lane, inputs.z, t)) : 1),
      );
    const { dInner } = sizes(inputs);
    for (let n = 0; n < dState; n++) set(outputs.finalState, sequence * dInner + channel, n, states[length][n]);
  });
}

/**
 * g[t] = C[t] gradPre[t] + exp(dt[t+1] A) g[t+1], from the end, where g[length] begins as grad.finalState. Then
 * grad.x += D gradPre + dt Σ g B;  grad.dt = x Σ g B + Σ g A a;  grad.A += g dt a;  grad.B += g dt x;  grad.C += gradPre h,
 * with a = exp(dt A) h[t-1] and gradPre = gradY silu(z).
 */
export function backward({
  inputs,
  options,
  gradOutputs,
  gradInputs,
}: BackwardCall<ScanInputs, ScanOutputs, ScanOptions>): void {
  forEachLane(inputs, options, (lane) => {
    const { sequence, channel, length, dState, group } = lane;
    const { dInner } = sizes(inputs);
    const states = runStates(lane);
    const row = sequence * dInner + channel;
    /** exp(dt[t+1] A) g[t+1]. */
    const carried = Array.from({ length: dState }, (_, n) =>
      gradOutputs.finalState ? get(gradOutputs.finalState, row, n) : 0,
    );
    for (let t = length - 1; t >= 0; t--) {
      const at = sequence * length + t;
      const x = token(lane, inputs.x, t);
      const dt = stepAt(lane, t);
      const gradY = gradOutputs.y ? token(lane, gradOutputs.y, t) : 0;
      let gradPre = gradY;
      if (inputs.z) {
        const z = token(lane, inputs.z, t);
        const s = sigmoid(z);
        gradPre = gradY * z * s;
        add(gradInputs.z, at, channel, gradY * preGate(lane, states[t + 1], t) * s * (1 + z * (1 - s)));
      }
      let gB = 0;
      let gAa = 0;
      for (let n = 0; n < dState; n++) {
        const g = get(inputs.C, at, group + n) * gradPre + carried[n];
        const A = get(inputs.A, channel, n);
        const ABar = isStart(lane, t) ? 0 : Math.exp(dt * A);
        const a = ABar * states[t][n];
        gB += g * get(inputs.B, at, group + n);
        gAa += g * A * a;
        add(gradInputs.A, channel, n, g * dt * a);
        add(gradInputs.B, at, group + n, g * dt * x);
        add(gradInputs.C, at, group + n, gradPre * states[t + 1][n]);
        carried[n] = ABar * g;
      }
      add(gradInputs.x, at, channel, dt * gB + gradPre * (inputs.D ? get(inputs.D, 0, channel) : 0));
      add(gradInputs.D, 0, channel, gradPre * x);
      const gradRaw = (x * gB + gAa) * (lane.softplus ? sigmoid(rawStep(lane, t)) : 1);
      add(gradInputs.dtRaw, at, channel, gradRaw);
      add(gradInputs.dtBias, 0, channel, gradRaw);
    }
    for (let n = 0; n < dState; n++) add(gradInputs.initialState, row, n, carried[n]);
  });
}

/** h before each token, and after the last: `length + 1` states. */
function runStates(lane: Lane): number[][] {
  const { inputs, sequence, channel, length, dState, group } = lane;
  const { dInner } = sizes(inputs);
  const initial = Array.from({ length: dState }, (_, n) =>
    inputs.initialState ? get(inputs.initialState, sequence * dInner + channel, n) : 0,
  );
  const states = [initial];
  for (let t = 0; t < length; t++) {
    const dt = stepAt(lane, t);
    const x = token(lane, inputs.x, t);
    const before = states[t];
    states.push(
      before.map((h, n) => {
        const kept = isStart(lane, t) ? 0 : Math.exp(dt * get(inputs.A, channel, n)) * h;
        return kept + dt * get(inputs.B, sequence * length + t, group + n) * x;
      }),
    );
  }
  return states;
}

/** C h + D x. */
function preGate(lane: Lane, h: readonly number[], t: number): number {
  const { inputs, sequence, channel, length, group } = lane;
  let sum = inputs.D ? get(inputs.D, 0, channel) * token(lane, inputs.x, t) : 0;
  for (let n = 0; n < h.length; n++) sum += get(inputs.C, sequence * length + t, group + n) * h[n];
  return sum;
}

function rawStep(lane: Lane, t: number): number {
  const { dtBias, dtRaw } = lane.inputs;
  return token(lane, dtRaw, t) + (dtBias ? get(dtBias, 0, lane.channel) : 0);
}

function stepAt(lane: Lane, t: number): number {
  const raw = rawStep(lane, t);
  return lane.softplus ? Math.max(raw, 0) + Math.log1p(Math.exp(-Math.abs(raw))) : raw;
}

function isStart({ inputs, sequence }: Lane, t: number): boolean {
  return inputs.documentStarts !== undefined && get(inputs.documentStarts, sequence, t) !== 0;
}

/** The lane's element of a tensor `[batch, length, dInner]` at time t. */
function token({ sequence, length, channel }: Lane, tensor: Tensor, t: number): number {
  return get(tensor, sequence * length + t, channel);
}

function sizes({ x }: ScanInputs): { batch: number; length: number; dInner: number } {
  const [batch, length, dInner] = x.shape;
  return { batch, length, dInner };
}

function forEachLane(
  inputs: ScanInputs,
  { softplus = true, groups = 1 }: ScanOptions,
  visit: (lane: Lane) => void,
): void {
  const { batch, length, dInner } = sizes(inputs);
  const dState = inputs.A.columns;
  for (let sequence = 0; sequence < batch; sequence++)
    for (let channel = 0; channel < dInner; channel++)
      visit({
        inputs,
        sequence,
        channel,
        length,
        dState,
        group: Math.floor(channel / (dInner / groups)) * dState,
        softplus,
      });
}

function get(tensor: Tensor, row: number, column: number): number {
  return hostData(tensor)[tensor.offset + row * tensor.rowStride + column];
}

function set(tensor: Tensor, row: number, column: number, value: number): void {
  hostData(tensor)[tensor.offset + row * tensor.rowStride + column] = value;
}

function add(tensor: Tensor | undefined, row: number, column: number, value: number): void {
  if (tensor) hostData(tensor)[tensor.offset + row * tensor.rowStride + column] += value;
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

function silu(x: number): number {
  return x * sigmoid(x);
}
