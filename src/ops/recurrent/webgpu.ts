// lstm and gru forward on the WebGPU backend: cuts the batch where a binding is too small, chooses kernels, dispatches.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { rowsPerBinding, vectorWidthOf, WORKGROUP } from "../webgpu-elements.ts";
import { recurrentBegin } from "./webgpu-begin.ts";
import type { RecurrentForward } from "./cells.ts";
import { STATES } from "./cells.ts";
import { chooseSequenceTile, MOST_STEPS, recurrentSequence } from "./webgpu-sequence.ts";
import { recurrentStep, STEP_UNITS, stepLanes } from "./webgpu-step.ts";
import { chooseStepTile } from "./webgpu-tiles.ts";

/** Below so many tokens the steps are dispatched one by one: a sequence must be worth loading the weight. */
export const LEAST_SEQUENCE = 4;

/** @param bySteps whether each step is a dispatch of its own; default: where the state is too large for a workgroup */
export function forwardRecurrent(backend: WebGpuBackend, call: RecurrentForward, bySteps = false): void {
  splitSequences(backend, call.bySequence, (parts) =>
    scope(() => forwardPart(backend, { ...call, bySequence: parts }, bySteps)),
  );
}

function forwardPart(
  backend: WebGpuBackend,
  { cell, weight, bias, bySequence }: RecurrentForward,
  bySteps: boolean,
): void {
  const { gates, initialH, initialC, starts, y, finalH, finalC, activated } = bySequence;
  const [batch, length] = gates.shape;
  const dHidden = weight.columns;
  const columns = STATES[cell] * dHidden;
  const before = bySequence.before ?? emptyTensor(backend, [batch, Math.min(length, 2), columns]);
  const slots = before.shape[1];
  const begin = recurrentBegin({ h: !!initialH, c: !!initialC, starts: !!starts });
  backend.dispatch(
    begin,
    present({ initialH, initialC, starts, before }),
    { batch, slots, dHidden, columns },
    groupsFor(batch * columns, WORKGROUP),
  );
  const spec = { cell, gates: gates.dtype, y: y.dtype, starts: !!starts, saves: !!activated };
  const buffers = present({ weight, gates, bias, starts, before, y, activated, finalH, finalC });
  const params = { batch, length, slots, dHidden };
  const sequenceTile = bySteps || length < LEAST_SEQUENCE ? undefined : chooseSequenceTile(backend, dHidden);
  if (sequenceTile) {
    const kernel = recurrentSequence({ ...spec, ...sequenceTile });
    for (let first = 0; first < length; first += MOST_STEPS) {
      const end = Math.min(length, first + MOST_STEPS);
      backend.dispatch(kernel, buffers, { first, end, ...params }, groupsFor(batch, 1));
    }
    return;
  }
  const tile = chooseStepTile(backend, { batch, dHidden, units: STEP_UNITS });
  const kernel = recurrentStep({ ...spec, ...tile, width: vectorWidthOf(weight) });
  const groups = [Math.ceil(dHidden / tile.units), Math.ceil(batch / tile.rows)] as const;
  for (let t = 0; t < length; t++)
    backend.dispatch(kernel, buffers, { t, lanes: stepLanes(tile), ...params }, [...groups]);
}

/** Without what is undefined. */
export function present(tensors: { readonly [name: string]: Tensor | undefined }): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).filter((entry): entry is [string, Tensor] => !!entry[1]));
}

/** Calls `body` with all tensors, or several times with some of their sequences, so that each fits a binding. */
export function splitSequences<T extends { readonly [name: string]: Tensor | undefined }>(
  backend: WebGpuBackend,
  tensors: T,
  body: (parts: T) => void,
): void {
  const all = Object.values(tensors).filter((tensor) => tensor !== undefined);
  const batch = all[0].shape[0];
  const most = Math.max(1, Math.min(...all.map((tensor) => sequencesPerBinding(backend, tensor))));
  if (batch <= most) return body(tensors);
  for (let first = 0; first < batch; first += most) {
    const count = Math.min(most, batch - first);
    const parts = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.entries(first, count)]);
    body(Object.fromEntries(parts) as T);
  }
}

function sequencesPerBinding(backend: WebGpuBackend, tensor: Tensor): number {
  return Math.floor((rowsPerBinding(backend, [tensor]) * tensor.shape[0]) / tensor.rows);
}
