// expertMlp on the reference backend: token by token and slot by slot.
import type { ReferenceStorage } from "../../backends/reference/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ExpertMlpInputs, ExpertMlpOutputs } from "./index.ts";

export function forward({ inputs, outputs: { y } }: ForwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>): void {
  for (let token = 0; token < y.rows; token++) {
    const sum = rowOf(y, token).fill(0);
    for (let slot = 0; slot < inputs.gates.columns; slot++) {
      const { gate, downOf, h } = throughExpert(inputs, token, slot);
      for (let i = 0; i < sum.length; i++) sum[i] += gate * dot(rowOf(downOf, i), h);
    }
  }
}

/**
 * With g a gate, G the gradient of y, h = u silu(z) and q = downᵀ G: grad.gate += q·h, grad.down += g G hᵀ, and g q is the
 * gradient of h, which goes through the product and silu to [u, z], and from there to upGate and x.
 */
export function backward(call: BackwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>): void {
  const { inputs, gradInputs: grads } = call;
  const gradY = call.gradOutputs.y;
  if (!gradY) return;
  const x = inputs.x;
  for (let token = 0; token < x.rows; token++) {
    const G = rowOf(gradY, token);
    for (let slot = 0; slot < inputs.gates.columns; slot++) {
      const { expert, gate, upGateOf, downOf, u, z, h } = throughExpert(inputs, token, slot);
      const q = new Float64Array(h.length);
      G.forEach((value, i) => addScaled(q, value, rowOf(downOf, i)));
      if (grads.gates) rowOf(grads.gates, token)[slot] += dot(q, h);
      if (grads.down) {
        const gradDown = grads.down.entries(expert, 1);
        G.forEach((value, i) => addScaled(rowOf(gradDown, i), gate * value, h));
      }
      const gradUZ = new Float64Array(2 * h.length);
      q.forEach((value, j) => {
        const s = sigmoid(z[j]);
        gradUZ[j] = gate * value * z[j] * s;
        gradUZ[h.length + j] = gate * value * u[j] * s * (1 + z[j] * (1 - s));
      });
      const gradUpGate = grads.upGate?.entries(expert, 1);
      gradUZ.forEach((value, j) => {
        if (gradUpGate) addScaled(rowOf(gradUpGate, j), value, rowOf(x, token));
        if (grads.x) addScaled(rowOf(grads.x, token), value, rowOf(upGateOf, j));
      });
    }
  }
}

/** What the expert of a slot makes of a token. */
function throughExpert({ x, gates, choices, upGate, down }: ExpertMlpInputs, token: number, slot: number) {
  const expert = ((choices.storage as ReferenceStorage).data as Int32Array)[
    choices.offset + token * choices.rowStride + slot
  ];
  const [upGateOf, downOf] = [upGate.entries(expert, 1), down.entries(expert, 1)];
  const dInner = down.columns;
  const product = (row: number): number => dot(rowOf(upGateOf, row), rowOf(x, token));
  const u = Float64Array.from({ length: dInner }, (_, j) => product(j));
  const z = Float64Array.from({ length: dInner }, (_, j) => product(dInner + j));
  const h = u.map((value, j) => value * z[j] * sigmoid(z[j]));
  return { expert, gate: rowOf(gates, token)[slot], upGateOf, downOf, u, z, h };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function addScaled(to: Float64Array, factor: number, from: Float64Array): void {
  for (let i = 0; i < to.length; i++) to[i] += factor * from[i];
}

function sigmoid(v: number): number {
  return 1 / (1 + Math.exp(-v));
}

/** A row, in place. */
function rowOf(tensor: Tensor, row: number): Float64Array {
  const start = tensor.offset + row * tensor.rowStride;
  return hostData(tensor).subarray(start, start + tensor.columns);
}
