// mambaStep on WebGPU: four dispatches a block. Norm, input projection and convolution; x_proj; dt_proj with the step of
// the scan; output projection with the residual.
import type { Kernel, Place, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { causalConv1d } from "../causal-conv1d/index.ts";
import { linear } from "../linear/index.ts";
import type { GpuInt8Layout } from "../linear/webgpu-pack.ts";
import { gpuInt8Layout } from "../linear/webgpu-pack.ts";
import { operandOf } from "../linear/webgpu-product.ts";
import { multiply } from "../linear/webgpu.ts";
import { rmsNorm } from "../rms-norm/index.ts";
import type { HeadInputs, StepInputs, StepOptions, StepOutputs } from "./index.ts";
import { MOST_ROWS } from "./rules.ts";
import { inProjection, projection, scanStep, scanThreads } from "./webgpu-kernels.ts";
import type { ProductSpec, WeightFormat } from "./webgpu-product.ts";
import { GROUP, outputsOfGroup } from "./webgpu-product.ts";

type StepCall = ForwardCall<StepInputs, StepOutputs, StepOptions>;

export function step(call: StepCall, backend: WebGpuBackend): void {
  scope(() => {
    if (call.inputs.hidden.rows <= MOST_ROWS) stepFewRows(call, backend);
    else stepManyRows(call, backend);
  });
}

function stepFewRows({ inputs, outputs, options }: StepCall, backend: WebGpuBackend): void {
  const { hidden, conv, A_log, dtProj, xProj, outProj, outProjBias: bias } = inputs;
  const [batch, dInner] = [hidden.rows, conv.rows];
  const xz = emptyTensor(backend, [batch, 2 * dInner]);
  const columns = dtProj.columns + 2 * A_log.columns;
  const partials = partialsOf(backend, inputs);
  const dtBC = emptyTensor(backend, [Math.max(1, partials) * batch, columns]);
  dispatchInProjection(backend, inputs, { xz, partials: partials > 0 ? dtBC : undefined }, options.eps);
  if (partials === 0) dispatchProjection(backend, { x: xz.columnsOf(0, dInner), weight: xProj, y: dtBC });
  const y = emptyTensor(backend, [batch, dInner]);
  dispatchScan(backend, inputs, { xz, dtBC, y }, partials);
  dispatchProjection(backend, { x: y, weight: outProj, bias, residual: hidden, y: outputs.y });
}

/** Buffers of the input projection when it begins xProj too. */
const MOST_BUFFERS = 10;

/**
 * Parts into which xProj · x is cut, one a workgroup of the input projection, so that it needs no kernel of its own; 0
 * where the sizes do not suit that.
 */
function partialsOf(backend: WebGpuBackend, { hidden, inProj, xProj, conv, A_log, dtProj }: StepInputs): number {
  const spec = productSpec(backend, hidden, inProj, { norm: true });
  const outputs = outputsOfGroup(spec);
  const [dInner, columns] = [conv.rows, xProj.rows];
  const suits =
    backend.device.limits.maxStorageBuffersPerShaderStage >= MOST_BUFFERS &&
    outputs >= 16 &&
    dInner % outputs === 0 &&
    spec.format !== "int8" &&
    formatOf(xProj) === spec.format &&
    columns <= GROUP &&
    A_log.columns % 4 === 0 &&
    dtProj.columns % 4 === 0;
  return suits ? dInner / outputs : 0;
}

/** Products by tiles of many rows; the scan's step with dt's projection, softplus, skip and gate is one kernel still. */
function stepManyRows({ inputs, outputs, options }: StepCall, backend: WebGpuBackend): void {
  const { hidden, conv, convState } = inputs;
  const { eps, activations: dtype = "f32" } = options;
  const [batch, dInner] = [hidden.rows, conv.rows];
  const normed = rmsNorm({ x: hidden, weight: inputs.norm }, { eps, dtype }).y;
  const xz = linear({ x: normed, weight: inputs.inProj, bias: inputs.inProjBias }, { dtype }).y;
  const x = causalConv1d(
    { x: xz.columnsOf(0, dInner), weight: conv, bias: inputs.convBias, initialState: convState },
    { silu: true },
    { finalState: convState },
  ).y;
  const dtBC = linear({ x, weight: inputs.xProj }, { dtype: "f32" }).y;
  const y = emptyTensor(backend, [batch, 1, dInner], dtype);
  dispatchScan(backend, inputs, { x, z: xz.columnsOf(dInner, 2 * dInner), dtBC, y });
  multiply(backend, {
    a: operandOf(y, "steps"),
    b: operandOf(inputs.outProj, "steps"),
    to: operandOf(outputs.y, "steps"),
    adds: false,
    bias: inputs.outProjBias && operandOf(inputs.outProjBias, "steps"),
    residual: operandOf(hidden, "steps"),
  });
}

/** x and z of the scan's step, together or apart, and what it reads and writes beside the weights. */
type Scanned = ({ readonly xz: Tensor } | { readonly x: Tensor; readonly z: Tensor }) & {
  readonly dtBC: Tensor;
  readonly y: Tensor;
};

function dispatchScan(backend: WebGpuBackend, inputs: StepInputs, scanned: Scanned, partials = 0): void {
  const { A_log, D, dtProj, dtBias, ssmState } = inputs;
  const [dInner, dState, dtRank] = [D.columns, A_log.columns, dtProj.columns];
  const { dtype: type } = scanned.y;
  const kernel = scanStep({
    dInner,
    dState,
    dtRank,
    format: formatOf(dtProj),
    type,
    isApart: "x" in scanned,
    partials,
    rows: partials > 0 ? scanned.y.rows : 0,
  });
  const channels = Math.floor(scanThreads({ partials }) / Math.ceil(dState / 4));
  const int8 = int8Of(dtProj);
  backend.dispatch(
    kernel,
    { ...scanned, weight: placeOf(dtProj), bias: dtBias, A_log, D, h: ssmState },
    { weight_row: int8?.rowStride ?? 0, scales_at: int8?.scalesAt ?? 0 },
    [Math.ceil(dInner / channels), scanned.y.rows],
  );
}

export function head(
  { inputs, outputs, options }: ForwardCall<HeadInputs, StepOutputs, StepOptions>,
  backend: WebGpuBackend,
): void {
  const { hidden, norm, weight } = inputs;
  dispatchProjection(backend, { x: hidden, norm, weight, y: outputs.y }, options.eps);
}

function dispatchInProjection(
  backend: WebGpuBackend,
  inputs: StepInputs,
  { xz, partials }: { readonly xz: Tensor; readonly partials: Tensor | undefined },
  eps: number,
): void {
  const { hidden, norm, inProj, inProjBias, conv, convBias, convState } = inputs;
  const spec = {
    ...productSpec(backend, hidden, inProj, { norm: true }),
    dInner: conv.rows,
    width: conv.columns,
    bias: inProjBias !== undefined,
    convBias: convBias !== undefined,
    partial: partials?.columns ?? 0,
  };
  const buffers = {
    x: hidden,
    norm,
    weight: placeOf(inProj),
    ...(inProjBias ? { bias: inProjBias } : {}),
    taps: conv,
    ...(convBias ? { tap_bias: convBias } : {}),
    conv: convState,
    ...(partials ? { x_proj: inputs.xProj, partials } : {}),
    y: xz,
  };
  const params = { eps, outputs: inProj.rows, scales_at: int8Of(inProj)?.scalesAt ?? 0 };
  dispatchOutputs(backend, inProjection(spec), buffers, params, spec);
}

/** What {@link project} multiplies, adds and writes. */
export interface Projected {
  readonly x: Tensor;
  readonly norm?: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
  readonly residual?: Tensor;
  readonly y: Tensor;
}

/** y = weight · x (+ bias) (+ residual), x normalised first where a norm is given. */
function dispatchProjection(backend: WebGpuBackend, all: Projected, eps = 0): void {
  project(backend, all, productSpec(backend, all.x, all.weight, { norm: all.norm !== undefined }), eps);
}

/** The same, shared among teams as `product` says. */
export function project(backend: WebGpuBackend, all: Projected, product: ProductSpec, eps: number): void {
  const { x, norm, weight, bias, residual, y } = all;
  const spec = { ...product, bias: bias !== undefined, residual: residual !== undefined };
  const buffers = {
    x,
    ...(norm ? { norm } : {}),
    weight: placeOf(weight),
    ...(bias ? { bias } : {}),
    ...(residual ? { residual } : {}),
    y,
  };
  const params = { outputs: weight.rows, scales_at: int8Of(weight)?.scalesAt ?? 0, eps };
  dispatchOutputs(backend, projection(spec), buffers, params, spec);
}

function dispatchOutputs(
  backend: WebGpuBackend,
  kernel: Kernel,
  buffers: { readonly [name: string]: Place },
  params: { readonly outputs: number; readonly [name: string]: number },
  spec: ProductSpec,
): void {
  backend.dispatch(kernel, buffers, params, groupsFor(params.outputs, outputsOfGroup(spec)));
}

/** Workgroups that keep a large GPU reading. */
const ENOUGH_GROUPS = 512;

/**
 * How a product is shared among teams: few outputs split their inputs, so that all of a GPU is at work; many outputs go
 * several to a team, so that x is read seldom, and are not split, since every workgroup has the norm to compute and parts of
 * xProj to hand over. The split does not depend on the number of rows, so that a batch has the bits of its members.
 */
export function productSpec(
  backend: WebGpuBackend,
  x: Tensor,
  weight: Tensor,
  { norm }: { norm: boolean },
): ProductSpec {
  const [least, most] = backend.about.subgroupSize;
  const isKnown = backend.has("subgroups") && least === most && least >= 4 && least <= 64;
  const [outputs, inputs] = [weight.rows, weight.columns];
  const perTeam = outputs >= 6144 ? 4 : outputs > 1024 ? 2 : 1;
  const mostSplit = GROUP / Math.max(32, isKnown ? least : 1);
  const groupsOf = (split: number): number => (outputs * split * 32) / GROUP / perTeam;
  let split = outputs < 512 ? mostSplit : 1;
  const canSplit = !norm || outputs <= 2048;
  while (canSplit && split < mostSplit && groupsOf(split) < ENOUGH_GROUPS) split *= 2;
  return {
    inputs,
    rows: x.rows,
    format: formatOf(weight),
    // Without subgroups every lane has its sums in workgroup memory.
    perTeam: isKnown ? perTeam : 1,
    split,
    subgroup: isKnown ? least : 1,
    norm,
  };
}

function formatOf({ format, dtype }: Tensor): WeightFormat {
  if (format === "int8") return "int8";
  return dtype === "f16" ? "f16" : "f32";
}

function int8Of({ format, rows, columns }: Tensor): GpuInt8Layout | undefined {
  return format === "int8" ? gpuInt8Layout(rows, columns) : undefined;
}

/** Where a weight lies: the bytes of int8 rows together with their scales. */
function placeOf(weight: Tensor): Place {
  const int8 = int8Of(weight);
  if (!int8) return weight;
  const { storage } = weight;
  return { storage, offset: 0, rowStride: int8.bytes, rows: 1, columns: int8.bytes };
}
