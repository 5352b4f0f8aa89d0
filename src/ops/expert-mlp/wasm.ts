// expertMlp on the WASM backend: binds kernels/assembly/expert-mlp.ts. Choices are read when kernels run, not here, so that
// a plan can replay it.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall, TensorSpec } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { ExpertMlpInputs, ExpertMlpOutputs } from "./index.ts";

/** Multiplications, and elements, below which one thread is quicker alone. */
const SERIAL_PRODUCTS = 1 << 16;
const SERIAL_ELEMENTS = 1 << 13;

/** What the memory behind the second matrix of a product holds. Mirrors kernels/assembly/gemm-f32.ts. */
const B_ROW_PER_COLUMN = 1;
const B_ROW_PER_STEP = 2;

/** Pairs (token, slot) sorted by expert: see sortByExpert in kernels/assembly/expert-mlp.ts. */
type Sorted = { readonly starts: Tensor; readonly order: Tensor; readonly places: Tensor };

export function forward(
  { inputs, outputs: { y }, saved }: ForwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>,
  backend: WasmBackend,
): void {
  const { x, gates, choices, upGate, down } = inputs;
  const [experts, dModel, dInner] = down.shape;
  const pairs = gates.size;
  if (y.size === 0) return;
  scope(() => {
    const made = saved ?? makeSaved(inputs);
    const sorted = made as Sorted & typeof made;
    const ends = [sorted.starts, sorted.order, sorted.places].map(pointer);
    backend.dispatch("sortByExpert", [pointer(choices), pairs, experts, ...ends], true);
    const rows = gather(backend, x, gates, sorted);
    multiplyRows(backend, rows, upGate, made.uz, { sorted, isTurned: false });
    const h = emptyTensor(backend, [pairs, dInner]);
    const uz = [pointer(made.uz), 2 * dInner, pointer(made.uz.columnsOf(dInner, 2 * dInner)), 2 * dInner];
    backend.dispatch("siluGate", [...uz, pointer(h), dInner, pairs, dInner], h.size < SERIAL_ELEMENTS);
    const out = emptyTensor(backend, [pairs, dModel]);
    multiplyRows(backend, h, down, out, { sorted, isTurned: false });
    combine(backend, out, y, { places: sorted.places, gates, topK: gates.columns, adds: false });
  });
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs: grads }: BackwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>,
  backend: WasmBackend,
): void {
  const { x, gates, upGate, down } = inputs;
  const gradY = gradOutputs.y;
  const [, dModel, dInner] = down.shape;
  const pairs = gates.size;
  if (!gradY || gradY.size === 0) return;
  const sorted = saved as Sorted & typeof saved;
  scope(() => {
    const gradRows = gather(backend, gradY, gates, sorted);
    const q = emptyTensor(backend, [pairs, dInner]);
    multiplyRows(backend, gradRows, down, q, { sorted, isTurned: true });
    const gh = emptyTensor(backend, [pairs, dInner]);
    const gradUZ = emptyTensor(backend, [pairs, 2 * dInner]);
    const args = [saved.uz, q, sorted.order, gates, grads.gates, gh, gradUZ].map(pointer);
    backend.dispatch("expertGateBackward", [...args, pairs, dInner], gh.size < SERIAL_ELEMENTS);
    if (grads.down) addOuter(backend, gradRows, gh, grads.down, sorted);
    if (grads.upGate) addOuter(backend, gradUZ, gather(backend, x, gates, sorted), grads.upGate, sorted);
    if (!grads.x) return;
    const gradX = emptyTensor(backend, [pairs, dModel]);
    multiplyRows(backend, gradUZ, upGate, gradX, { sorted, isTurned: true });
    combine(backend, gradX, grads.x, { places: sorted.places, gates: undefined, topK: gates.columns, adds: true });
  });
}

/** What {@link forward} keeps for {@link backward}. */
export function savedBy({ gates, down }: ExpertMlpInputs): Record<string, TensorSpec> {
  const [experts, , dInner] = down.shape;
  return {
    starts: { shape: [experts + 1], dtype: "i32" },
    order: { shape: [gates.size], dtype: "i32" },
    places: { shape: [gates.size], dtype: "i32" },
    uz: { shape: [gates.size, 2 * dInner] },
  };
}

function makeSaved(inputs: ExpertMlpInputs): Readonly<Record<string, Tensor>> {
  const specs = Object.entries(savedBy(inputs));
  return Object.fromEntries(
    specs.map(([name, { shape, dtype }]) => [name, emptyTensor(inputs.x.backend, shape, dtype)]),
  );
}

/** Rows of tokens, one a place. */
function gather(backend: WasmBackend, x: Tensor, gates: Tensor, { order }: Sorted): Tensor {
  const rows = emptyTensor(backend, [gates.size, x.columns]);
  const args = [pointer(x), x.rowStride, pointer(rows), rows.rowStride, pointer(order)];
  backend.dispatch("gatherTokens", [...args, gates.size, gates.columns, x.columns], rows.size < SERIAL_ELEMENTS);
  return rows;
}

/** to = a Wᵀ, or where turned a W, W being the weight of each place's expert. */
function multiplyRows(
  backend: WasmBackend,
  a: Tensor,
  weight: Tensor,
  to: Tensor,
  { sorted, isTurned }: { sorted: Sorted; isTurned: boolean },
): void {
  const [experts, outputs, inputs] = weight.shape;
  const b = [pointer(weight), isTurned ? B_ROW_PER_STEP : B_ROW_PER_COLUMN, weight.rowStride];
  const args = [pointer(a), a.rowStride, 1, ...b, pointer(to), to.rowStride, 0, 0, a.rows, to.columns, a.columns];
  args.push(pointer(sorted.starts), experts, 0, outputs * inputs);
  backend.dispatch("expertGemm", args, a.rows * outputs * inputs < SERIAL_PRODUCTS);
}

/** grad_e += aᵀ b over the places of expert e. */
function addOuter(backend: WasmBackend, a: Tensor, b: Tensor, grad: Tensor, sorted: Sorted): void {
  const [experts, outputs, inputs] = grad.shape;
  const args = [pointer(a), 1, a.rowStride, pointer(b), B_ROW_PER_STEP, b.rowStride, pointer(grad), grad.rowStride];
  args.push(0, 1, outputs, inputs, a.rows, pointer(sorted.starts), experts, 1, outputs * inputs);
  backend.dispatch("expertGemm", args, a.rows * outputs * inputs < SERIAL_PRODUCTS);
}

function combine(
  backend: WasmBackend,
  rows: Tensor,
  y: Tensor,
  { places, gates, topK, adds }: { places: Tensor; gates: Tensor | undefined; topK: number; adds: boolean },
): void {
  const args = [pointer(rows), rows.rowStride, pointer(y), y.rowStride, pointer(places), pointer(gates)];
  args.push(y.rows, topK, y.columns, Number(adds));
  backend.dispatch("combineExperts", args, rows.size < SERIAL_ELEMENTS);
}
