// lstm and gru backward on the WebGPU backend: the recurrence from the end, then the weight's gradient as one product.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { copyInto, emptyTensor, zeros } from "../../tensor/tensor.ts";
import { addTo } from "../add/webgpu.ts";
import { gradientUse, vectorWidthOf, WORKGROUP } from "../webgpu-elements.ts";
import { backwardProducts } from "./products.ts";
import { LEAST_SEQUENCE, present, splitSequences } from "./webgpu.ts";
import type { RecurrentBackward } from "./cells.ts";
import type { GradientSpec } from "./webgpu-gradient-cells.ts";
import { chooseSequenceTile, MOST_STEPS } from "./webgpu-sequence.ts";
import { recurrentSequenceGradient } from "./webgpu-sequence-gradient.ts";
import {
  GRADIENT_UNITS,
  gradientLanes,
  recurrentInitialGradient,
  recurrentLastGradient,
  recurrentStepGradient,
} from "./webgpu-step-gradient.ts";
import { chooseStepTile } from "./webgpu-tiles.ts";

/** @param bySteps whether each step is a dispatch of its own; default: where the state is too large for a workgroup */
export function backwardRecurrent(backend: WebGpuBackend, call: RecurrentBackward, bySteps = false): void {
  splitSequences(backend, call.bySequence, (parts) =>
    scope(() => backwardPart(backend, { ...call, bySequence: parts }, bySteps)),
  );
}

function backwardPart(backend: WebGpuBackend, call: RecurrentBackward, bySteps: boolean): void {
  const { cell, weight, bySequence } = call;
  const { activated, before, starts, gradY, gradFinalH, gradFinalC, gradGates } = bySequence;
  const [batch, length] = activated.shape;
  const dHidden = weight.columns;
  // The gradients of an lstm's gates are those that the product needs: where nothing is to be added, one tensor is both.
  const isShared = cell === "lstm" && gradGates?.dtype === "f32" && !backend.hasContent(gradGates);
  const pulled = isShared ? gradGates : emptyTensor(backend, [batch, length, weight.rows]);
  const carry = zeros(backend, [batch, dHidden]);
  if (gradFinalC) copyInto(gradFinalC, carry);
  const spec: GradientSpec = {
    cell,
    gradY: gradY?.dtype,
    starts: !!starts,
    gradGates: isShared ? undefined : gradientUse(backend, gradGates),
  };
  const buffers = present({ activated, before, starts, gradY, carry, pulled, ...(!isShared && { gradGates }) });
  const params = { batch, length, dHidden };
  backend.dispatch(
    recurrentLastGradient({ ...spec, finalH: !!gradFinalH }),
    { ...buffers, ...present({ finalH: gradFinalH }) },
    params,
    groupsFor(batch * dHidden, WORKGROUP),
  );
  const places = { weight, ...buffers };
  if (length > 1) runTokens(backend, places, { spec, params, bySteps });
  addInitial(backend, call, { pulled, carry });
  backwardProducts(call, { pulled, before });
}

/** All tokens but the last. */
function runTokens(
  backend: WebGpuBackend,
  buffers: { readonly weight: Tensor; readonly [name: string]: Tensor },
  how: {
    readonly spec: GradientSpec;
    readonly params: { readonly batch: number; readonly length: number; readonly dHidden: number };
    readonly bySteps: boolean;
  },
): void {
  const { spec, params, bySteps } = how;
  const { batch, length, dHidden } = params;
  const sequenceTile = bySteps || length < LEAST_SEQUENCE ? undefined : chooseSequenceTile(backend, dHidden);
  if (sequenceTile) {
    const kernel = recurrentSequenceGradient({ ...spec, ...sequenceTile });
    for (let end = length - 1; end > 0; end -= MOST_STEPS) {
      const first = Math.max(0, end - MOST_STEPS);
      backend.dispatch(kernel, buffers, { first, end, ...params }, groupsFor(batch, 1));
    }
    return;
  }
  const tile = chooseStepTile(backend, { batch, dHidden, units: GRADIENT_UNITS });
  const kernel = recurrentStepGradient({ ...spec, ...tile, width: vectorWidthOf(buffers.weight) });
  const groups = [Math.ceil(dHidden / tile.units), Math.ceil(batch / tile.rows)] as const;
  for (let t = length - 2; t >= 0; t--)
    backend.dispatch(kernel, buffers, { t, lanes: gradientLanes(tile), ...params }, [...groups]);
}

/** The gradients of the states before the first tokens. */
function addInitial(
  backend: WebGpuBackend,
  { cell, weight, bySequence }: RecurrentBackward,
  { pulled, carry }: { pulled: Tensor; carry: Tensor },
): void {
  const { starts, gradInitialH: gradH, gradInitialC } = bySequence;
  const [batch, length] = pulled.shape;
  const dHidden = weight.columns;
  if (gradInitialC) addTo(backend, carry, gradInitialC);
  if (!gradH) return;
  const tile = chooseStepTile(backend, { batch, dHidden, units: GRADIENT_UNITS });
  const kernel = recurrentInitialGradient({
    cell,
    starts: !!starts,
    gradH: gradientUse(backend, gradH),
    ...tile,
    width: vectorWidthOf(weight),
  });
  const buffers = present({ weight, starts, pulled, gradH, ...(cell === "gru" && { carry }) });
  const groups = [Math.ceil(dHidden / tile.units), Math.ceil(batch / tile.rows)] as const;
  backend.dispatch(kernel, buffers, { lanes: gradientLanes(tile), batch, length, dHidden }, [...groups]);
}
