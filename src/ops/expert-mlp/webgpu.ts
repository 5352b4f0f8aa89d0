// expertMlp on the WebGPU backend: pairs sorted by expert on the device, products over tiles of rows of one expert each.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall, TensorSpec } from "../../tensor/define-op.ts";
import { runForward } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { siluGate } from "../silu-gate/index.ts";
import { gradientUse } from "../webgpu-elements.ts";
import type { ExpertMlpInputs, ExpertMlpOutputs } from "./index.ts";
import type { Products, TileChoice } from "./webgpu-products.ts";
import { addOuter, multiplyRows, tileRowsFor } from "./webgpu-products.ts";
import { combine, gateBackward, gatherTokens } from "./webgpu-rows.ts";
import type { SortSizes, Sorted } from "./webgpu-sort.ts";
import { sortPairs, sortedSpecs } from "./webgpu-sort.ts";
import { MOST_VECTOR_PAIRS, forwardByVectors } from "./webgpu-vectors.ts";

type Forward = ForwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>;
type Backward = BackwardCall<ExpertMlpInputs, ExpertMlpOutputs, object>;
/** The order of the pairs, and [u, z] in it. */
type Saved = Sorted & { readonly uz: Tensor };

export function forward({ inputs, outputs, saved }: Forward, backend: WebGpuBackend): void {
  if (outputs.y.size === 0) return;
  if (!saved && inputs.gates.size <= MOST_VECTOR_PAIRS) forwardByVectors(backend, inputs, outputs);
  else forwardByTiles(backend, { inputs, outputs, saved });
}

/** @param choice for tests; else the device decides */
export function forwardByTiles(
  backend: WebGpuBackend,
  { inputs, outputs: { y }, saved }: Omit<Forward, "options">,
  choice?: TileChoice,
): void {
  const { x, gates, choices, upGate, down } = inputs;
  const [, dModel, dInner] = down.shape;
  scope(() => {
    const made = (saved ?? makeSaved(inputs, choice)) as unknown as Saved;
    const { uz, ...sorted } = made;
    const products = productsOf(inputs, sorted, choice);
    sortPairs(backend, choices, sorted, sizesOf(inputs, choice));
    multiplyRows(products, gatherTokens(backend, x, sorted, gates.columns), upGate, uz, "steps");
    const h = emptyTensor(backend, [uz.rows, dInner], x.dtype);
    const halves = { x: uz.columnsOf(0, dInner), z: uz.columnsOf(dInner, 2 * dInner) };
    runForward(siluGate, { inputs: halves, outputs: { y: h }, saved: undefined, options: {} });
    const rows = emptyTensor(backend, [uz.rows, dModel], x.dtype);
    multiplyRows(products, h, down, rows, "steps");
    combine(backend, { rows, places: sorted.places }, y, { gates, topK: gates.columns, use: `write ${y.dtype}` });
  });
}

/** See {@link forwardByTiles}; the formulas stand in reference.ts and README.md. */
export function backward(
  { inputs, saved, gradOutputs, gradInputs: grads }: Omit<Backward, "options" | "outputs">,
  backend: WebGpuBackend,
  choice?: TileChoice,
): void {
  const { x, gates, upGate, down } = inputs;
  const gradY = gradOutputs.y;
  const [, dModel, dInner] = down.shape;
  const topK = gates.columns;
  if (!gradY || gradY.size === 0) return;
  const { uz, ...sorted } = saved as unknown as Saved;
  const products = productsOf(inputs, sorted, choice);
  scope(() => {
    const rowsOf = (columns: number): Tensor => emptyTensor(backend, [uz.rows, columns], x.dtype);
    const gradRows = gatherTokens(backend, gradY, sorted, topK);
    const [q, gh, gradUZ] = [rowsOf(dInner), rowsOf(dInner), rowsOf(2 * dInner)];
    multiplyRows(products, gradRows, down, q, "outer");
    gateBackward(backend, { uz, q, order: sorted.order, gates, gh, gradUZ, gradGates: grads.gates });
    if (grads.down) addOuter(products, gradRows, gh, grads.down);
    if (grads.upGate) addOuter(products, gradUZ, gatherTokens(backend, x, sorted, topK), grads.upGate);
    if (!grads.x) return;
    const rows = rowsOf(dModel);
    multiplyRows(products, gradUZ, upGate, rows, "outer");
    const use = gradientUse(backend, grads.x);
    combine(backend, { rows, places: sorted.places }, grads.x, { gates: undefined, topK, use });
  });
}

/** What {@link forward} keeps for {@link backward}. */
export function savedBy(inputs: ExpertMlpInputs, choice?: TileChoice): Record<string, TensorSpec> {
  const { x, down } = inputs;
  const specs = sortedSpecs(sizesOf(inputs, choice));
  return { ...specs, uz: { shape: [specs.order.shape[0], 2 * down.columns], dtype: x.dtype } };
}

/** The tensors of {@link savedBy}. */
export function makeSaved(inputs: ExpertMlpInputs, choice?: TileChoice): Readonly<Record<string, Tensor>> {
  const specs = Object.entries(savedBy(inputs, choice));
  return Object.fromEntries(
    specs.map(([name, { shape, dtype }]) => [name, emptyTensor(inputs.x.backend, shape, dtype)]),
  );
}

function sizesOf({ gates, down }: ExpertMlpInputs, choice?: TileChoice): SortSizes {
  const [experts] = down.shape;
  const tileRows = choice?.tileRows ?? tileRowsFor(gates.backend as WebGpuBackend, gates.size, experts);
  return { pairs: gates.size, experts, tileRows };
}

function productsOf(inputs: ExpertMlpInputs, sorted: Sorted, choice: TileChoice | undefined): Products {
  const { tileRows } = sizesOf(inputs, choice);
  return { backend: inputs.x.backend as WebGpuBackend, sorted, tileRows, kind: choice?.kind };
}
