// mambaStep: one token through a whole Mamba block, in four kernels instead of ten: decoding is bound by launches.
// Source: Gu & Dao 2023, figure 3 (state-spaces/mamba, modules/mamba_simple.py `step`).
import { BackendError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as webgpu from "./webgpu.ts";

export { isStepFused, isStepTiled } from "./rules.ts";

export type StepInputs = {
  readonly hidden: Tensor;
  readonly norm: Tensor;
  readonly inProj: Tensor;
  readonly inProjBias?: Tensor | undefined;
  readonly conv: Tensor;
  readonly convBias?: Tensor | undefined;
  readonly xProj: Tensor;
  readonly dtProj: Tensor;
  readonly dtBias: Tensor;
  readonly A_log: Tensor;
  readonly D: Tensor;
  readonly outProj: Tensor;
  readonly outProjBias?: Tensor | undefined;
  readonly convState: Tensor;
  readonly ssmState: Tensor;
};
export type StepOutputs = { readonly y: Tensor };
export interface StepOptions {
  /** Of the norm. */
  readonly eps: number;
  /** Element type between the products of many rows. Default f32; few rows are float32 in any case. */
  readonly activations?: "f32" | "f16";
}

/**
 * y = hidden + outProj(scan(conv(inProj(rmsNorm(hidden))))), for one token a sequence. **The states change in place.**
 *
 *     x, z = inProj · rmsNorm(hidden);  x = silu(conv(x));  dt, B, C = xProj · x;  dt = softplus(dtProj · dt + dtBias)
 *     h = exp(-dt exp(A_log)) h + dt B x;  y = hidden + outProj · ((C h + D x) silu(z))
 *
 * All between the kernels is float32, or of the type `activations` for more than 8 rows; weights of products may be f32 or f16 rows, or int8 on the devices that pack it.
 * A row has the same bits whatever else is in the batch.
 * @param hidden `[batch, 1, dModel]`  @param norm `[dModel]`
 * @param inProj `[2 dInner, dModel]`, inProjBias `[2 dInner]` or none  @param conv `[dInner, 2..4]`, convBias `[dInner]` or none
 * @param xProj `[dtRank + 2 dState, dInner]`  @param dtProj `[dInner, dtRank]`, dtBias `[dInner]`
 * @param A_log `[dInner, dState]`, D `[dInner]`  @param outProj `[dModel, dInner]`, outProjBias `[dModel]` or none
 * @param convState `[batch, width - 1, dInner]`, oldest first  @param ssmState `[batch, dInner, dState]`
 * @returns y, the shape of hidden
 * @throws ShapeError; BackendError on a device where {@link isStepFused} and {@link isStepTiled} say no
 */
export const mambaStep: Op<StepInputs, StepOutputs, StepOptions> = defineOp<StepInputs, StepOutputs, StepOptions>({
  name: "mambaStep",
  shape(inputs) {
    checkStepShapes(inputs);
    return { y: { shape: inputs.hidden.shape } };
  },
  kernels: { reference: reference.step, webgpu: webgpu.step },
});

export type HeadInputs = { readonly hidden: Tensor; readonly norm: Tensor; readonly weight: Tensor };

/**
 * logits = weight · rmsNorm(hidden), in one kernel: the head of {@link mambaStep}.
 * @param hidden `[batch, 1, dModel]`  @param norm `[dModel]`  @param weight `[vocabSize, dModel]`
 * @returns y `[batch, 1, vocabSize]`
 * @throws ShapeError
 */
export const stepHead: Op<HeadInputs, StepOutputs, StepOptions> = defineOp<HeadInputs, StepOutputs, StepOptions>({
  name: "stepHead",
  shape({ hidden, norm, weight }) {
    if (weight.shape.length !== 2 || weight.shape[1] !== hidden.columns || norm.columns !== hidden.columns)
      throw new ShapeError(
        `stepHead: norm and weight must be [dModel] and [vocabSize, dModel], got ${formatShape(norm.shape)} and ${formatShape(weight.shape)} for hidden ${formatShape(hidden.shape)}.`,
      );
    return { y: { shape: [...hidden.shape.slice(0, -1), weight.shape[0]] } };
  },
  kernels: { reference: reference.head, webgpu: webgpu.head },
});

function checkStepShapes(inputs: StepInputs): void {
  const { hidden, conv, A_log, dtProj, convState } = inputs;
  const [batch, length, dModel] = hidden.shape;
  const [dInner, width] = conv.shape;
  const [dState, dtRank] = [A_log.columns, dtProj.columns];
  if (hidden.shape.length !== 3 || length !== 1)
    throw new ShapeError(`mambaStep: hidden must be [batch, 1, dModel], got ${formatShape(hidden.shape)}.`);
  const expected: { readonly [name in keyof StepInputs]: readonly number[] } = {
    hidden: hidden.shape,
    norm: [dModel],
    inProj: [2 * dInner, dModel],
    inProjBias: [2 * dInner],
    conv: [dInner, width],
    convBias: [dInner],
    xProj: [dtRank + 2 * dState, dInner],
    dtProj: [dInner, dtRank],
    dtBias: [dInner],
    A_log: [dInner, dState],
    D: [dInner],
    outProj: [dModel, dInner],
    outProjBias: [dModel],
    convState: [batch, width - 1, dInner],
    ssmState: [batch, dInner, dState],
  };
  for (const [name, shape] of Object.entries(expected)) {
    const tensor = inputs[name as keyof StepInputs];
    if (tensor && !isSameShape(tensor.shape, shape))
      throw new ShapeError(`mambaStep: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
  }
  if (!convState.isContiguous || !inputs.ssmState.isContiguous)
    throw new BackendError("mambaStep: the states must have closed-up rows, since they change in place.");
}
