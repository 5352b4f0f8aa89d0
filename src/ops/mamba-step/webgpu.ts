// mambaStep on WebGPU: four dispatches a block. Norm, input projection and convolution; x_proj; dt_proj with the step of
// the scan; output projection with the residual.
import type { Kernel, Place, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { GpuInt8Layout } from "../linear/webgpu-pack.ts";
import { gpuInt8Layout } from "../linear/webgpu-pack.ts";
import type { HeadInputs, StepInputs, StepOptions, StepOutputs } from "./index.ts";
import { inProjection, projection, scanStep, SCAN_GROUP } from "./webgpu-kernels.ts";
import type { ProductSpec, WeightFormat } from "./webgpu-product.ts";
import { GROUP, outputsOfGroup } from "./webgpu-product.ts";

export function step(
  { inputs, outputs, options }: ForwardCall<StepInputs, StepOutputs, StepOptions>,
  backend: WebGpuBackend,
): void {
  scope(() => {
    const { hidden, conv, A_log, dtProj } = inputs;
    const [batch, dInner] = [hidden.rows, conv.rows];
    const [dState, dtRank] = [A_log.columns, dtProj.columns];
    const xz = emptyTensor(backend, [batch, 2 * dInner]);
    dispatchInProjection(backend, inputs, xz, options.eps);
    const dtBC = emptyTensor(backend, [batch, dtRank + 2 * dState]);
    dispatchProjection(backend, { x: xz.columnsOf(0, dInner), weight: inputs.xProj, y: dtBC });
    const y = emptyTensor(backend, [batch, dInner]);
    const kernel = scanStep({ dInner, dState, dtRank, format: formatOf(dtProj) });
    const channels = Math.floor(SCAN_GROUP / Math.ceil(dState / 4));
    backend.dispatch(
      kernel,
      {
        xz,
        dtBC,
        weight: placeOf(dtProj),
        bias: inputs.dtBias,
        A_log,
        D: inputs.D,
        h: inputs.ssmState,
        y,
      },
      { weight_row: int8Of(dtProj)?.rowStride ?? 0, scales_at: int8Of(dtProj)?.scalesAt ?? 0 },
      [Math.ceil(dInner / channels), batch],
    );
    dispatchProjection(backend, {
      x: y,
      weight: inputs.outProj,
      bias: inputs.outProjBias,
      residual: hidden,
      y: outputs.y,
    });
  });
}

export function head(
  { inputs, outputs, options }: ForwardCall<HeadInputs, StepOutputs, StepOptions>,
  backend: WebGpuBackend,
): void {
  const { hidden, norm, weight } = inputs;
  dispatchProjection(backend, { x: hidden, norm, weight, y: outputs.y }, options.eps);
}

function dispatchInProjection(backend: WebGpuBackend, inputs: StepInputs, xz: Tensor, eps: number): void {
  const { hidden, norm, inProj, inProjBias, conv, convBias, convState } = inputs;
  const spec = {
    ...productSpec(backend, hidden, inProj, { norm: true }),
    dInner: conv.rows,
    width: conv.columns,
    bias: inProjBias !== undefined,
    convBias: convBias !== undefined,
  };
  const buffers = {
    x: hidden,
    norm,
    weight: placeOf(inProj),
    ...(inProjBias ? { bias: inProjBias } : {}),
    taps: conv,
    ...(convBias ? { tap_bias: convBias } : {}),
    conv: convState,
    y: xz,
  };
  const params = { eps, outputs: inProj.rows, scales_at: int8Of(inProj)?.scalesAt ?? 0 };
  dispatchOutputs(backend, inProjection(spec), buffers, params, spec);
}

/** What {@link dispatchProjection} multiplies, adds and writes. */
interface Projected {
  readonly x: Tensor;
  readonly norm?: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
  readonly residual?: Tensor;
  readonly y: Tensor;
}

/** y = weight · x (+ bias) (+ residual); the weight in pieces of rows where a binding is too small for it. */
function dispatchProjection(backend: WebGpuBackend, all: Projected, eps = 0): void {
  const { x, norm, weight, bias, residual, y } = all;
  const rowBytes = weight.rowStride * BYTES_PER_ELEMENT[weight.dtype];
  const int8 = int8Of(weight);
  const most = int8 ? weight.rows : Math.floor((backend.maxBindingBytes - 512) / rowBytes / 8) * 8;
  for (let first = 0; first < weight.rows; first += most) {
    const end = Math.min(weight.rows, first + most);
    const isWhole = end - first === weight.rows;
    const spec = {
      ...productSpec(backend, x, weight, { norm: norm !== undefined }),
      bias: bias !== undefined,
      residual: residual !== undefined,
    };
    const buffers = {
      x,
      ...(norm ? { norm } : {}),
      weight: isWhole ? placeOf(weight) : weight.rowsOf(first, end - first),
      ...(bias ? { bias: isWhole ? bias : bias.columnsOf(first, end) } : {}),
      ...(residual ? { residual: isWhole ? residual : residual.columnsOf(first, end) } : {}),
      y: isWhole ? y : y.columnsOf(first, end),
    };
    const params = { outputs: end - first, scales_at: int8?.scalesAt ?? 0, eps };
    dispatchOutputs(backend, projection(spec), buffers, params, spec);
  }
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

/**
 * How a product is shared among teams: few outputs split their inputs, so that all of a GPU is at work; many outputs go
 * several to a team, so that x is read seldom. It does not depend on the number of rows, so that a batch has the bits of its members.
 */
export function productSpec(
  backend: WebGpuBackend,
  x: Tensor,
  weight: Tensor,
  { norm }: { norm: boolean },
): ProductSpec {
  const [least, most] = backend.about.subgroupSize;
  const isKnown = backend.has("subgroups") && least === most && least >= 4 && least <= 64;
  const outputs = weight.rows;
  const shared =
    outputs >= 6144 ? { perTeam: 4, split: 1 } : outputs > 2048 ? { perTeam: 2, split: 1 } : { perTeam: 2, split: 2 };
  const { perTeam, split } = outputs < 512 ? { perTeam: 1, split: GROUP / 32 } : shared;
  return {
    inputs: weight.columns,
    rows: x.rows,
    format: formatOf(weight),
    // Without subgroups every lane has its sums in workgroup memory.
    perTeam: isKnown ? perTeam : 1,
    split: Math.min(split, GROUP / Math.max(32, isKnown ? least : 1)),
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
