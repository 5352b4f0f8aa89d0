// routeExperts on the reference backend.
import type { ReferenceStorage } from "../../backends/reference/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { RouteExpertsInputs, RouteExpertsOptions, RouteExpertsOutputs } from "./index.ts";

type Forward = ForwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>;
type Backward = BackwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>;

export function forward({ inputs: { logits }, outputs, saved, options: { topK } }: Forward): void {
  const { gates, choices, balance } = outputs;
  const experts = logits.columns;
  const [counts, sums] = [new Float64Array(experts), new Float64Array(experts)];
  for (let row = 0; row < logits.rows; row++) {
    const own = rowOf(logits, row);
    const p = softmax(own);
    const chosen = Array.from(p.keys())
      .toSorted((a, b) => own[b] - own[a] || a - b)
      .slice(0, topK);
    const sum = topK === 1 ? 1 : chosen.reduce((total, expert) => total + p[expert], 0);
    chosen.forEach((expert, slot) => {
      hostData(gates)[gates.offset + row * gates.rowStride + slot] = p[expert] / sum;
      integers(choices)[choices.offset + row * choices.rowStride + slot] = expert;
      counts[expert]++;
    });
    p.forEach((value, expert) => (sums[expert] += value));
    if (saved) hostData(saved.probabilities).set(p, row * experts);
  }
  const shares = counts.map((count) => count / (logits.rows * topK));
  if (saved) hostData(saved.shares).set(shares);
  hostData(balance)[balance.offset] =
    experts * sums.reduce((total, sum, e) => total + (shares[e] * sum) / logits.rows, 0);
}

/**
 * With G the gradient of the gates: topK = 1: grad[j] += G p_c (δ_cj - p_j); topK > 1: grad[c_k] += g_k (G_k - Σ G g).
 * Of the balance: grad[j] += G experts / tokens p_j (f_j - Σ_e f_e p_e).
 */
export function backward({ outputs, saved, options: { topK }, gradOutputs, gradInputs }: Backward): void {
  const { logits: grad } = gradInputs;
  if (!grad) return;
  const experts = grad.columns;
  const shares = hostData(saved.shares);
  const gradBalance = gradOutputs.balance ? hostData(gradOutputs.balance)[gradOutputs.balance.offset] : 0;
  for (let row = 0; row < grad.rows; row++) {
    const p = hostData(saved.probabilities).subarray(row * experts, (row + 1) * experts);
    const sums = rowOf(grad, row);
    const mean = p.reduce((total, value, e) => total + value * shares[e], 0);
    p.forEach((value, e) => (sums[e] += ((gradBalance * experts) / grad.rows) * value * (shares[e] - mean)));
    if (!gradOutputs.gates) continue;
    const [g, gates] = [rowOf(gradOutputs.gates, row), rowOf(outputs.gates, row)];
    const chosen = integers(outputs.choices).subarray(row * topK, (row + 1) * topK);
    const flow = g.reduce((total, value, slot) => total + value * gates[slot], 0);
    chosen.forEach((expert, slot) => (sums[expert] += gates[slot] * (topK === 1 ? g[slot] : g[slot] - flow)));
    if (topK === 1) p.forEach((value, e) => (sums[e] -= flow * value));
  }
}

function softmax(logits: Float64Array): Float64Array {
  const largest = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

/** A row, in place. */
function rowOf(tensor: Tensor, row: number): Float64Array {
  const start = tensor.offset + row * tensor.rowStride;
  return hostData(tensor).subarray(start, start + tensor.columns);
}

function integers(tensor: Tensor): Int32Array {
  return (tensor.storage as ReferenceStorage).data as Int32Array;
}
