// causalConv1d on the WebGPU backend: a thread walks a stretch of time of a vector of channels, the window in registers.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { copyInto, emptyTensor } from "../../tensor/tensor.ts";
import { elementsHeader, rowsPerBinding, storeTo, vectorUse, vectorWidthOf, WORKGROUP } from "../webgpu-elements.ts";
import type { ConvInputs, ConvOptions, ConvOutputs } from "./index.ts";
import type { ConvPlan } from "./webgpu-pieces.ts";
import { cut, cutInputs, entriesOf, piecesOf, planOf, presentOf } from "./webgpu-pieces.ts";
import type { WindowSpec } from "./webgpu-window.ts";
import { windowBuffers, windowText } from "./webgpu-window.ts";

export function forward(
  { inputs, outputs, options }: ForwardCall<ConvInputs, ConvOutputs, ConvOptions>,
  backend: WebGpuBackend,
): void {
  const { y, finalState } = outputs;
  const pieces = piecesOf(rowsPerBinding(backend, [inputs.x, y]), inputs.x.shape);
  scope(() => {
    let state = inputs.initialState;
    for (const piece of pieces) {
      const own = cutInputs(inputs, piece, state);
      const final = piece.isLast ? entriesOf(finalState, piece) : emptyStateLike(own.x, finalState);
      forwardPiece(backend, own, { y: cut(y, piece), finalState: final }, options);
      state = piece.isLast ? inputs.initialState : final;
    }
  });
}

function emptyStateLike(x: Tensor, state: Tensor): Tensor {
  return emptyTensor(state.backend, [x.shape[0], ...state.shape.slice(1)]);
}

/** Runs the kernel over tensors that bindings hold. Without y it only finds the final state. */
export function forwardPiece(
  backend: WebGpuBackend,
  inputs: ConvInputs,
  outputs: { y: Tensor | undefined; finalState: Tensor },
  options: ConvOptions,
  wanted: Partial<ConvPlan> = {},
): void {
  const { x, weight, bias, initialState, documentStarts } = inputs;
  const { y, finalState } = outputs;
  const [batch, length] = x.shape;
  const width = vectorWidthOf(x, y, bias, initialState, finalState);
  const columns = x.columns / width;
  const { steps, atOnce } = { ...planOf(backend, batch * columns, length), ...wanted };
  const chunks = Math.ceil(length / steps);
  const isShared = initialState?.storage === finalState.storage;
  if (isShared && !(chunks === 1 && isSamePlace(initialState, finalState)))
    return scope(() => {
      const own = emptyStateLike(x, finalState);
      forwardPiece(backend, inputs, { y, finalState: own }, options, wanted);
      copyInto(own, finalState);
    });
  const kernel = convForward({
    x: x.dtype,
    y: y?.dtype,
    width,
    taps: weight.columns,
    silu: options.silu ?? false,
    bias: bias !== undefined,
    initial: isShared ? "inPlace" : initialState ? "state" : "zeros",
    starts: documentStarts !== undefined,
    atOnce: Math.min(atOnce, 2 ** Math.ceil(Math.log2(length))),
  });
  const optional = { bias, documentStarts, y, initialState: isShared ? undefined : initialState };
  const rows = batch * chunks;
  backend.dispatch(
    kernel,
    { x, weight, finalState, ...presentOf(optional) },
    { rows, columns, length, chunks, steps },
    groupsFor(rows * columns, WORKGROUP),
  );
}

function isSamePlace(a: Tensor, b: Tensor): boolean {
  return a.storage === b.storage && a.offset === b.offset && a.rowStride === b.rowStride;
}

type ForwardSpec = WindowSpec & { y: string | undefined };

const convForward = defineKernel<ForwardSpec>(
  "causalConv1d",
  [
    { x: "f32", y: "f32", width: 4, taps: 4, silu: true, bias: true, initial: "state", starts: true, atOnce: 8 },
    { x: "f16", y: "f16", width: 1, taps: 3, silu: false, bias: false, initial: "zeros", starts: false, atOnce: 8 },
    { x: "f16", y: "f16", width: 4, taps: 4, silu: true, bias: true, initial: "inPlace", starts: false, atOnce: 1 },
    { x: "f32", y: undefined, width: 1, taps: 2, silu: true, bias: true, initial: "inPlace", starts: true, atOnce: 2 },
  ],
  (spec) => ({
    buffers: {
      ...windowBuffers(spec),
      ...(spec.y && { y: vectorUse(`write ${spec.y}`, spec.width) }),
      finalState: vectorUse(spec.initial === "inPlace" ? "add f32" : "write f32", spec.width),
    },
    params: ["rows", "columns", "length", "chunks", "steps"],
    body: windowText(spec) + elementsHeader(spec.width, forwardBody(spec)),
  }),
);

/** Of `row`, the number of a stretch of time among those of all sequences. */
function forwardBody({ y, width }: ForwardSpec): string {
  const place = { row: "b * params.length + now", value: "activate(sum)" };
  return /* wgsl */ `
  let b = row / params.chunks;
  let start = (row % params.chunks) * params.steps;
  let end = min(start + params.steps, params.length);
  var weights: array<Floats, TAPS>;
  for (var k = 0u; k < TAPS; k++) { weights[k] = weight_of(column, k); }
  let shift = bias_of(column);
  see_before(b, start, column);
  for (var t = start; t < end; t += AT_ONCE) {
    var inputs: array<Floats, AT_ONCE>;
    for (var i = 0u; i < AT_ONCE; i++) { inputs[i] = input_at(b, min(t + i, end - 1u), column); }
    for (var i = 0u; i < AT_ONCE; i++) {
      let now = t + i;
      if (now >= end) { break; }
      see(inputs[i], is_start(b, now));
      var sum = shift;
      for (var k = 0u; k < TAPS; k++) { sum += weights[k] * seen[k]; }
      ${y ? storeTo("y", `write ${y}` as BufferUse, width, place) : ""}
    }
  }
  if (end < params.length) { return; }
  for (var k = 1u; k < TAPS; k++) { ${storeTo("finalState", "write f32", width, { row: "b * (TAPS - 1u) + k - 1u", value: "seen[k]" })} }`;
}
