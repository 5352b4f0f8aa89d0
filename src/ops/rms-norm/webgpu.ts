// rmsNorm on the WebGPU backend: each row is read once and stays in registers; see README.md.
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
import type { RmsNormInputs, RmsNormOptions, RmsNormOutputs } from "./index.ts";

/** Blocks of rows with partial sums of the weight's gradient, at the most; and rows of a block at the least. */
const BLOCKS = 512;
const LEAST_ROWS = 8;

export function forward(
  { inputs: { x, weight }, outputs: { y }, saved, options }: ForwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>,
  backend: WebGpuBackend,
  wanted?: RowSharing,
): void {
  const { eps = 1e-5 } = options;
  const inverse = saved && columnOf(saved.inverse);
  splitRows(backend, { x, y, inverse }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.y, weight);
    const { rows } = parts.x;
    const columns = x.columns / width;
    const sharing = wanted ?? rowSharingOf(backend, columns);
    const kernel = normForward({ x: x.dtype, y: y.dtype, saves: inverse !== undefined, width, ...sharing });
    const buffers = { x: parts.x, weight, y: parts.y, ...(parts.inverse && { inverse: parts.inverse }) };
    backend.dispatch(kernel, buffers, { rows, columns, eps }, groupsFor(rows, sharing.rowsAtOnce));
  });
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>,
  backend: WebGpuBackend,
  wanted?: RowSharing,
): void {
  const { x, weight } = inputs;
  const { x: gradX, weight: gradWeight } = gradInputs;
  const { y: gradY } = gradOutputs;
  if (!gradY) return;
  splitRows(backend, { x, gradY, gradX, inverse: columnOf(saved.inverse) }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.gradY, parts.gradX, weight);
    const { rows } = parts.x;
    const columns = x.columns / width;
    const sharing = wanted ?? rowSharingOf(backend, columns);
    const { rowsAtOnce } = sharing;
    const rowsPerBlock = Math.ceil(Math.max(LEAST_ROWS, rows / BLOCKS) / rowsAtOnce) * rowsAtOnce;
    const blocks = Math.ceil(rows / rowsPerBlock);
    const kernel = normBackward({
      x: x.dtype,
      gradY: gradY.dtype,
      gradX: gradientUse(backend, parts.gradX),
      sums: gradWeight !== undefined,
      width,
      ...sharing,
    });
    scope(() => {
      const partials = gradWeight && emptyTensor(backend, [blocks, x.columns]);
      const buffers = { x: parts.x, weight, gradY: parts.gradY, inverse: parts.inverse };
      backend.dispatch(
        kernel,
        { ...buffers, ...(parts.gradX && { gradX: parts.gradX }), ...(partials && { partials }) },
        { rows, columns, rowsPerBlock },
        [blocks],
      );
      if (partials) addPartialSums(backend, partials, gradWeight);
    });
  });
}

/** A vector as `[rows, 1]`, so that it is cut like the rows that it belongs to. */
function columnOf(vector: Tensor): Tensor {
  return vector.reshape([vector.size, 1]);
}

type ForwardSpec = { x: string; y: string; saves: boolean; width: VectorWidth } & RowSharing;

const normForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "rmsNorm",
  SHARING_SAMPLES.flatMap((sharing) => [
    { x: "f32", y: "f32", saves: true, width: 4, ...sharing },
    { x: "f32", y: "f16", saves: false, width: 1, ...sharing },
  ]),
  ({ x, y, saves, width, ...sharing }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      weight: `read ${vectorType("f32", width)}`,
      y: `write ${vectorType(y, width)}`,
      ...(saves && { inverse: "write f32" }),
    },
    params: ["rows", "columns", "eps: f32"],
    body: /* wgsl */ `${floatsOf(width)}${rowSumOf(sharing)}

@compute @workgroup_size(LANES * ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let wanted = (group.x + group.y * groups.x) * ROWS + thread / LANES;
  let row = min(wanted, params.rows - 1u);
  let lane = thread % LANES;
  var values: array<Floats, ITEMS>;
  var squares = Floats(0);
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) {
      values[item] = Floats(${vectorAt("x")});
      squares += values[item] * values[item];
    }
  }
  let mean = row_sum(sum_of(squares), thread) / f32(params.columns * WIDTH);
  let r = inverseSqrt(mean + params.eps);
  if (wanted >= params.rows) { return; }
  ${saves ? "if (lane == 0u) { inverse[params.inverse_at + row * params.inverse_stride] = r; }" : ""}
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) {
      let value = values[item] * r * ${vectorAt("weight", "0u")};
      ${storeTo("y", `write ${y}`, width, { value: "value" })}
    }
  }
}`,
  }),
);

type BackwardSpec = {
  x: string;
  gradY: string;
  gradX: BufferUse | undefined;
  sums: boolean;
  width: VectorWidth;
} & RowSharing;

const normBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "rmsNormBackward",
  SHARING_SAMPLES.flatMap((sharing) => [
    { x: "f32", gradY: "f32", gradX: "add f32", sums: true, width: 4, ...sharing },
    { x: "f16", gradY: "f16", gradX: "write f16", sums: false, width: 1, ...sharing },
    { x: "f32", gradY: "f16", gradX: undefined, sums: true, width: 1, ...sharing },
  ]),
  ({ x, gradY, gradX, sums, width, ...sharing }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      weight: `read ${vectorType("f32", width)}`,
      gradY: `read ${vectorType(gradY, width)}`,
      inverse: "read f32",
      ...(gradX && { gradX: vectorUse(gradX, width) }),
      ...(sums && { partials: `write ${vectorType("f32", width)}` }),
    },
    params: ["rows", "columns", "rowsPerBlock"],
    body: /* wgsl */ `${floatsOf(width)}${rowSumOf(sharing)}
var<workgroup> shared_sums: array<Floats, ITEMS * ROWS * LANES>;

@compute @workgroup_size(LANES * ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % LANES;
  var sums: array<Floats, ITEMS>;
  var weights: array<Floats, ITEMS>;
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) { weights[item] = ${vectorAt("weight", "0u")}; }
  }
  for (var step = 0u; step < params.rowsPerBlock; step += ROWS) {
    let wanted = group.x * params.rowsPerBlock + step + thread / LANES;
    let is_row = wanted < params.rows;
    let row = min(wanted, params.rows - 1u);
    let r = select(0.0, inverse[params.inverse_at + row * params.inverse_stride], is_row);
    var values: array<Floats, ITEMS>;
    var grads: array<Floats, ITEMS>;
    var products = Floats(0);
    for (var item = 0u; item < ITEMS; item++) {
      let column = item * LANES + lane;
      if (column < params.columns) {
        values[item] = Floats(${vectorAt("x")});
        let grad = Floats(${vectorAt("gradY")});
        sums[item] += grad * values[item] * r;
        grads[item] = grad * weights[item];
        products += grads[item] * values[item];
      }
    }
    let mean = row_sum(sum_of(products), thread) / f32(params.columns * WIDTH);
    let scale = r * r * r * mean;
    for (var item = 0u; item < ITEMS; item++) {
      let column = item * LANES + lane;
      if (is_row && column < params.columns) {
        let value = r * grads[item] - scale * values[item];
        ${gradX ? storeTo("gradX", gradX, width, { value: "value" }) : ""}
      }
    }
  }
  ${sums ? (sharing.rowsAtOnce > 1 ? writeSumsOfRows() : writeSums()) : ""}
}`,
  }),
);

/** partials[block]: the sums of the only row that the workgroup has at a time. */
const writeSums = (): string => /* wgsl */ `
  for (var item = 0u; item < ITEMS; item++) {
    let column = item * LANES + lane;
    if (column < params.columns) { ${vectorAt("partials", "group.x")} = sums[item]; }
  }`;

/** partials[block]: the sums of all rows that the workgroup has at a time, added in their order. */
const writeSumsOfRows = (): string => /* wgsl */ `
  for (var item = 0u; item < ITEMS; item++) { shared_sums[item * ROWS * LANES + thread] = sums[item]; }
  workgroupBarrier();
  for (var column = thread; column < min(ITEMS * LANES, params.columns); column += ROWS * LANES) {
    let first = (column / LANES) * ROWS * LANES + lane;
    var sum = shared_sums[first];
    for (var other = 1u; other < ROWS; other++) { sum += shared_sums[first + other * LANES]; }
    ${vectorAt("partials", "group.x")} = sum;
  }`;
