// layerNorm on the WebGPU backend: each row is read once and stays in registers; see README.md.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { addPartialSums } from "../webgpu-column-sums.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  floatsOf,
  gradientUse,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { RowSharing } from "../webgpu-row-sums.ts";
import { rowSharingOf, rowSumOf, SHARING_SAMPLES } from "../webgpu-row-sums.ts";
import type { LayerNormInputs, LayerNormOptions, LayerNormOutputs } from "./index.ts";

/** Blocks of rows with partial sums of the weight's and the bias' gradients, at the most; rows of a block at the least. */
const BLOCKS = 512;
const LEAST_ROWS = 8;

export function forward(
  call: ForwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>,
  backend: WebGpuBackend,
): void {
  const { x, weight, bias } = call.inputs;
  const { y } = call.outputs;
  const { eps = 1e-5 } = call.options;
  const kept = call.saved && { mean: columnOf(call.saved.mean), inverse: columnOf(call.saved.inverse) };
  splitRows(backend, { x, y, mean: kept?.mean, inverse: kept?.inverse }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.y, weight, bias);
    const { rows } = parts.x;
    const columns = x.columns / width;
    const sharing = rowSharingOf(backend, columns);
    const kernel = normForward({ x: x.dtype, y: y.dtype, saves: kept !== undefined, width, ...sharing });
    const statistics = parts.mean && parts.inverse && { mean: parts.mean, inverse: parts.inverse };
    const buffers = { x: parts.x, weight, bias, y: parts.y, ...statistics };
    backend.dispatch(kernel, buffers, { rows, columns, eps }, groupsFor(rows, sharing.rowsAtOnce));
  });
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>,
  backend: WebGpuBackend,
): void {
  const { x, weight } = inputs;
  const { y: gradY } = gradOutputs;
  if (!gradY) return;
  const all = { x, gradY, gradX: gradInputs.x, mean: columnOf(saved.mean), inverse: columnOf(saved.inverse) };
  splitRows(backend, all, (parts) => dispatchBackward(backend, { ...parts, weight }, gradInputs));
}

interface BackwardParts {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly gradY: Tensor;
  readonly gradX: Tensor | undefined;
  readonly mean: Tensor;
  readonly inverse: Tensor;
}

function dispatchBackward(
  backend: WebGpuBackend,
  { gradX, ...read }: BackwardParts,
  sums: { readonly weight?: Tensor | undefined; readonly bias?: Tensor | undefined },
): void {
  const { x, gradY, weight } = read;
  const width = vectorWidthOf(x, gradY, gradX, weight);
  const { rows } = x;
  const columns = x.columns / width;
  const sharing = rowSharingOf(backend, columns);
  const { rowsAtOnce } = sharing;
  const rowsPerBlock = Math.ceil(Math.max(LEAST_ROWS, rows / BLOCKS) / rowsAtOnce) * rowsAtOnce;
  const blocks = Math.ceil(rows / rowsPerBlock);
  const kernel = normBackward({
    x: x.dtype,
    gradY: gradY.dtype,
    gradX: gradientUse(backend, gradX),
    ofWeight: sums.weight !== undefined,
    ofBias: sums.bias !== undefined,
    width,
    ...sharing,
  });
  scope(() => {
    const ofWeight = sums.weight && emptyTensor(backend, [blocks, x.columns]);
    const ofBias = sums.bias && emptyTensor(backend, [blocks, x.columns]);
    const written = { ...(gradX && { gradX }), ...(ofWeight && { ofWeight }), ...(ofBias && { ofBias }) };
    backend.dispatch(kernel, { ...read, ...written }, { rows, columns, rowsPerBlock }, [blocks]);
    if (ofWeight) addPartialSums(backend, ofWeight, sums.weight);
    if (ofBias) addPartialSums(backend, ofBias, sums.bias);
  });
}

/** A vector as `[rows, 1]`, so that it is cut like the rows that it belongs to. */
function columnOf(vector: Tensor): Tensor {
  return vector.reshape([vector.size, 1]);
}

type ForwardSpec = { x: string; y: string; saves: boolean; width: VectorWidth } & RowSharing;

const normForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "layerNorm",
  SHARING_SAMPLES.flatMap((sharing) => [
    { x: "f32", y: "f32", saves: true, width: 4, ...sharing },
    { x: "f32", y: "f16", saves: false, width: 1, ...sharing },
  ]),
  ({ x, y, saves, width, ...sharing }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      weight: `read ${vectorType("f32", width)}`,
      bias: `read ${vectorType("f32", width)}`,
      y: `write ${vectorType(y, width)}`,
      ...(saves && { mean: "write f32", inverse: "write f32" }),
    },
    params: ["rows", "columns", "eps: f32"],
    body: /* wgsl */ `${floatsOf(width)}${rowSumOf(sharing)}

@compute @workgroup_size(LANES * ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let wanted = (group.x + group.y * groups.x) * ROWS + thread / LANES;
  let row = min(wanted, params.rows - 1u);
  let lane = thread % LANES;
  var values: array<Floats, ITEMS>;
  var sum = Floats(0);
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) {
      values[item] = Floats(${vectorAt("x")});
      sum += values[item];
    }
  }
  let centre = row_sum(sum_of(sum), thread) / f32(params.columns * WIDTH);
  var squares = Floats(0);
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) {
      values[item] -= centre;
      squares += values[item] * values[item];
    }
  }
  let variance = row_sum(sum_of(squares), thread) / f32(params.columns * WIDTH);
  let r = inverseSqrt(variance + params.eps);
  if (wanted >= params.rows) { return; }
  ${saves ? storeStatistics() : ""}
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) {
      let value = values[item] * r * ${vectorAt("weight", "0u")} + ${vectorAt("bias", "0u")};
      ${storeTo("y", `write ${y}`, width, { value: "value" })}
    }
  }
}`,
  }),
);

const storeStatistics = (): string => /* wgsl */ `
  if (lane == 0u) {
    mean[params.mean_at + row * params.mean_stride] = centre;
    inverse[params.inverse_at + row * params.inverse_stride] = r;
  }`;

type BackwardSpec = {
  x: string;
  gradY: string;
  gradX: BufferUse | undefined;
  ofWeight: boolean;
  ofBias: boolean;
  width: VectorWidth;
} & RowSharing;

const normBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "layerNormBackward",
  SHARING_SAMPLES.flatMap((sharing) => [
    { x: "f32", gradY: "f32", gradX: "add f32", ofWeight: true, ofBias: true, width: 4, ...sharing },
    { x: "f16", gradY: "f16", gradX: "write f16", ofWeight: false, ofBias: true, width: 1, ...sharing },
    { x: "f32", gradY: "f16", gradX: undefined, ofWeight: true, ofBias: false, width: 1, ...sharing },
  ]),
  ({ x, gradY, gradX, ofWeight, ofBias, width, ...sharing }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      weight: `read ${vectorType("f32", width)}`,
      gradY: `read ${vectorType(gradY, width)}`,
      mean: "read f32",
      inverse: "read f32",
      ...(gradX && { gradX: vectorUse(gradX, width) }),
      ...(ofWeight && { ofWeight: `write ${vectorType("f32", width)}` as BufferUse }),
      ...(ofBias && { ofBias: `write ${vectorType("f32", width)}` as BufferUse }),
    },
    params: ["rows", "columns", "rowsPerBlock"],
    body: /* wgsl */ `${floatsOf(width)}${rowSumOf(sharing)}
var<workgroup> shared_sums: array<Floats, ITEMS * ROWS * LANES>;

@compute @workgroup_size(LANES * ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % LANES;
  var weight_sums: array<Floats, ITEMS>;
  var bias_sums: array<Floats, ITEMS>;
  var weights: array<Floats, ITEMS>;
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) { weights[item] = ${vectorAt("weight", "0u")}; }
  }
  for (var step = 0u; step < params.rowsPerBlock; step += ROWS) {
    let wanted = group.x * params.rowsPerBlock + step + thread / LANES;
    let is_row = wanted < params.rows;
    let row = min(wanted, params.rows - 1u);
    let centre = mean[params.mean_at + row * params.mean_stride];
    let r = inverse[params.inverse_at + row * params.inverse_stride];
    var normed: array<Floats, ITEMS>;
    var grads: array<Floats, ITEMS>;
    var sum = Floats(0);
    var products = Floats(0);
    for (var item = 0u; item < ITEMS; item++) {
      let column = item * LANES + lane;
      if (column < params.columns) {
        normed[item] = (Floats(${vectorAt("x")}) - centre) * r;
        let grad = select(Floats(0), Floats(${vectorAt("gradY")}), is_row);
        weight_sums[item] += grad * normed[item];
        bias_sums[item] += grad;
        grads[item] = grad * weights[item];
        sum += grads[item];
        products += grads[item] * normed[item];
      }
    }
    let mean_grad = row_sum(sum_of(sum), thread) / f32(params.columns * WIDTH);
    let mean_product = row_sum(sum_of(products), thread) / f32(params.columns * WIDTH);
    for (var item = 0u; item < ITEMS; item++) {
      let column = item * LANES + lane;
      if (is_row && column < params.columns) {
        let value = r * (grads[item] - mean_grad - normed[item] * mean_product);
        ${gradX ? storeTo("gradX", gradX, width, { value: "value" }) : ""}
      }
    }
  }
  ${ofWeight ? writeSums("ofWeight", "weight_sums", sharing.rowsAtOnce) : ""}
  ${ofBias ? writeSums("ofBias", "bias_sums", sharing.rowsAtOnce) : ""}
}`,
  }),
);

/** buffer[block]: the sums of all rows that the workgroup has at a time, added in their order. */
function writeSums(buffer: string, sums: string, rowsAtOnce: number): string {
  if (rowsAtOnce === 1)
    return /* wgsl */ `
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) { ${vectorAt(buffer, "group.x")} = ${sums}[item]; }
  }`;
  return /* wgsl */ `
  workgroupBarrier();
  for (var item = 0u; item < ITEMS; item++) { shared_sums[item * ROWS * LANES + thread] = ${sums}[item]; }
  workgroupBarrier();
  for (var column = thread; column < min(ITEMS * LANES, params.columns); column += ROWS * LANES) {
    let first = (column / LANES) * ROWS * LANES + lane;
    var sum = shared_sums[first];
    for (var other = 1u; other < ROWS; other++) { sum += shared_sums[first + other * LANES]; }
    ${vectorAt(buffer, "group.x")} = sum;
  }`;
}
