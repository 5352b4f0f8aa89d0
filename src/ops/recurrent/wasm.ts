// lstm and gru on the WASM backend: binds kernels/assembly/{recurrent,recurrent-backward}.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, zeros } from "../../tensor/tensor.ts";
import { backwardProducts } from "./products.ts";
import { GATES, STATES } from "./cells.ts";
import type { RecurrentBackward, RecurrentForward } from "./cells.ts";

/** Multiplications below which one thread is quicker alone: of a command, and of a step that threads would share. */
const SERIAL_PRODUCTS = 1 << 16;
const SHARED_PRODUCTS = 1 << 17;
/** Sequences of an item, at the most: the weight is read once for all of them. */
const MOST_ROWS = 8;
/** Units of an item are multiples of so many. */
const UNITS = 16;

export function forwardRecurrent(backend: WasmBackend, { cell, weight, bias, bySequence }: RecurrentForward): void {
  const { gates, initialH, initialC, starts, y, finalH, finalC, activated } = bySequence;
  const [batch, length] = gates.shape;
  const dHidden = weight.columns;
  scope(() => {
    const before = bySequence.before ?? emptyTensor(backend, [batch, Math.min(length, 2), STATES[cell] * dHidden]);
    const slots = before.shape[1];
    begin({ before, starts, states: [initialH, initialC].slice(0, STATES[cell]) }, backend);
    const args = [GATES[cell], pointer(gates), gates.rowStride, pointer(weight), weight.rowStride, pointer(bias)];
    args.push(pointer(starts), starts?.rowStride ?? 0, pointer(before), pointer(y), y.rowStride, pointer(activated));
    args.push(pointer(finalH), finalH.rowStride, pointer(finalC), finalC?.rowStride ?? 0);
    args.push(batch, length, slots, dHidden);
    const sizes = { batch, dHidden, rows: weight.rows };
    dispatchSteps(backend, "recurrentForward", args, sizes, { first: 0, end: length, step: 1 });
  });
}

/** The states before the first tokens. */
function begin(
  { before, starts, states }: { before: Tensor; starts: Tensor | undefined; states: readonly (Tensor | undefined)[] },
  backend: WasmBackend,
): void {
  const [batch, slots, columns] = before.shape;
  const dHidden = columns / states.length;
  states.forEach((state, i) => {
    const args = [pointer(state), state?.rowStride ?? 0, pointer(starts), starts?.rowStride ?? 0];
    args.push(pointer(before) + 4 * i * dHidden, slots * columns, batch, dHidden);
    backend.dispatch("recurrentBegin", args, batch * dHidden < SERIAL_PRODUCTS);
  });
}

export function backwardRecurrent(backend: WasmBackend, call: RecurrentBackward): void {
  const { cell, weight, bySequence } = call;
  const { activated, before, starts, gradY, gradFinalH, gradFinalC, gradGates } = bySequence;
  const { gradInitialH: gradH, gradInitialC: gradC } = bySequence;
  const [batch, length] = activated.shape;
  const dHidden = weight.columns;
  scope(() => {
    const pulled = emptyTensor(backend, [batch, length, weight.rows]);
    const carry = zeros(backend, [batch, dHidden]);
    if (gradFinalC) addTo(backend, gradFinalC, carry);
    const args = [GATES[cell], pointer(weight), weight.rowStride, pointer(starts), starts?.rowStride ?? 0];
    args.push(pointer(before), pointer(activated), pointer(gradY), gradY?.rowStride ?? 0);
    args.push(pointer(gradFinalH), gradFinalH?.rowStride ?? 0, pointer(carry), pointer(pulled));
    args.push(pointer(gradGates), gradGates?.rowStride ?? 0, pointer(gradH), gradH?.rowStride ?? 0);
    args.push(batch, length, dHidden);
    const sizes = { batch, dHidden, rows: weight.rows };
    // -1: the initial state.
    dispatchSteps(backend, "recurrentBackward", args, sizes, { first: gradH ? -1 : 0, end: length, step: -1 });
    if (gradC) addTo(backend, carry, gradC);
    backwardProducts(call, { pulled, before });
  });
}

/**
 * All tokens in one command, whose threads share the sequences; or a command a token, whose threads share the units too,
 * where there are fewer sequences than threads and a token is worth it.
 */
function dispatchSteps(
  backend: WasmBackend,
  kernel: string,
  args: readonly number[],
  { batch, dHidden, rows }: { batch: number; dHidden: number; rows: number },
  { first, end, step }: { first: number; end: number; step: 1 | -1 },
): void {
  const products = batch * rows * dHidden;
  const isShared = batch < backend.threads && products >= SHARED_PRODUCTS;
  if (!isShared) {
    const rowsPerItem = Math.min(MOST_ROWS, Math.ceil(batch / backend.threads));
    const isSerial = products * (end - first) < SERIAL_PRODUCTS;
    return backend.dispatch(kernel, [...args, first, end, rowsPerItem, dHidden], isSerial);
  }
  const unitsPerItem = Math.ceil(dHidden / (4 * backend.threads) / UNITS) * UNITS;
  for (let i = 0; i < end - first; i++) {
    const t = step === 1 ? first + i : end - 1 - i;
    backend.dispatch(kernel, [...args, t, t + 1, Math.min(MOST_ROWS, batch), unitsPerItem]);
  }
}

function addTo(backend: WasmBackend, from: Tensor, to: Tensor): void {
  const args = [pointer(to), to.rowStride, pointer(from), from.rowStride, pointer(to), to.rowStride];
  backend.dispatch("add", [...args, to.rows, to.columns], to.size < SERIAL_PRODUCTS);
}
