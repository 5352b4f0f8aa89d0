// selectiveScan: the recurrence whose step, input and output matrices depend on the token; with its step's softplus, skip and gate.
// Source: Gu & Dao 2023, Alg. 2, eq. 2.
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";
import { SAVE_EVERY } from "./webgpu-choice.ts";

export { negativeExp } from "./negative-exp.ts";

export type ScanInputs = {
  readonly x: Tensor;
  readonly dtRaw: Tensor;
  readonly A: Tensor;
  readonly B: Tensor;
  readonly C: Tensor;
  readonly D?: Tensor | undefined;
  readonly dtBias?: Tensor | undefined;
  readonly z?: Tensor | undefined;
  readonly initialState?: Tensor | undefined;
  readonly documentStarts?: Tensor | undefined;
};
export type ScanOutputs = { readonly y: Tensor; readonly finalState: Tensor };
export interface ScanOptions {
  /** Whether dt = softplus(dtRaw + dtBias); else dt = dtRaw + dtBias. Default true. */
  readonly softplus?: boolean;
  /** Groups of B and C: channel d reads group floor(d / (dInner / groups)). Default 1. */
  readonly groups?: number;
}

/** Steps between the states that the forward pass saves for the backward pass on the CPU. Mirrors kernels/assembly/scan-args.ts. */
export const CHUNK = 64;
const MAX_STATE = 256;

/**
 * h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t];  y[t] = (C[t] h[t] + D x[t]) · silu(z[t]);  dt = softplus(dtRaw + dtBias).
 *
 * The same bits whether a sequence comes whole or in pieces through the state, and whatever else is in the batch.
 * For the backward pass it saves one state in 64 steps (on a GPU in 16) and computes the others again.
 * @param x, dtRaw, z `[batch, length, dInner]`; z is optional (no gate). Each may be a view of columns
 * @param A `[dInner, dState]`, negative; dState 1 to 256
 * @param B, C `[batch, length, groups * dState]`
 * @param D, dtBias `[dInner]`, optional
 * @param initialState `[batch, dInner, dState]`, optional: zeros
 * @param documentStarts i32 `[batch, length]`, optional: 1 where the state is zero before this token
 * @returns y `[batch, length, dInner]`; finalState `[batch, dInner, dState]`, which may be written over initialState
 * @throws ShapeError
 */
export const selectiveScan: Op<ScanInputs, ScanOutputs, ScanOptions> = defineOp<ScanInputs, ScanOutputs, ScanOptions>({
  name: "selectiveScan",
  shape(inputs, options) {
    checkScanShapes(inputs, options);
    const [batch, , dInner] = inputs.x.shape;
    return {
      y: { shape: inputs.x.shape, dtype: inputs.x.dtype },
      finalState: { shape: [batch, dInner, inputs.A.columns] },
    };
  },
  saves({ x, A }) {
    const [batch, length, dInner] = x.shape;
    const every = x.backend.name === "webgpu" ? SAVE_EVERY : CHUNK;
    return { chunkStarts: { shape: [batch, Math.ceil(length / every), dInner, A.columns] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "dtRaw", "A", "B", "C", "D", "dtBias", "z", "initialState"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});

function checkScanShapes(inputs: ScanInputs, { groups = 1 }: ScanOptions): void {
  const { x, A } = inputs;
  const [batch, length, dInner] = x.shape;
  if (x.shape.length !== 3 || !length)
    throw new ShapeError(`selectiveScan: x must be [batch, length >= 1, dInner], got ${formatShape(x.shape)}.`);
  const dState = A.columns;
  if (A.shape.length !== 2 || A.shape[0] !== dInner)
    throw new ShapeError(
      `selectiveScan: A must be [dInner, dState] = [${dInner}, dState], got ${formatShape(A.shape)}.`,
    );
  if (dState < 1 || dState > MAX_STATE)
    throw new ShapeError(`selectiveScan: dState must be 1 to ${MAX_STATE}, got ${dState}.`);
  if (!Number.isInteger(groups) || groups < 1 || dInner % groups !== 0)
    throw new ShapeError(`selectiveScan: groups must divide dInner = ${dInner}, got ${groups}.`);
  const perToken = [batch, length, groups * dState];
  const expected: [keyof ScanInputs, number[]][] = [
    ["dtRaw", [batch, length, dInner]],
    ["B", perToken],
    ["C", perToken],
    ["D", [dInner]],
    ["dtBias", [dInner]],
    ["z", [batch, length, dInner]],
    ["initialState", [batch, dInner, dState]],
    ["documentStarts", [batch, length]],
  ];
  for (const [name, shape] of expected) {
    const tensor = inputs[name];
    if (tensor && !isSameShape(tensor.shape, shape))
      throw new ShapeError(`selectiveScan: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
  }
}
