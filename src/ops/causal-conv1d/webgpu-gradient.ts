// The gradient of causalConv1d on the WebGPU backend: one walk over time for x, weight, bias and the states; see README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, zeros } from "../../tensor/tensor.ts";
import { addPartialSums } from "../webgpu-column-sums.ts";
import {
  floatsOf,
  gradientUse,
  rowsPerBinding,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { ConvInputs, ConvOptions, ConvOutputs } from "./index.ts";
import { forwardPiece } from "./webgpu.ts";
import type { ConvPlan, Piece } from "./webgpu-pieces.ts";
import { cut, cutInputs, entriesOf, piecesOf, planOf, presentOf } from "./webgpu-pieces.ts";
import type { WindowSpec } from "./webgpu-window.ts";
import { windowBuffers, windowText } from "./webgpu-window.ts";

/** Vectors of channels of a workgroup, and stretches of time, whose sums it adds up. */
const SPAN = 32;
const LANES = 4;

/** Gradients that come in, and those to add to. */
export interface Gradients {
  readonly gradY: Tensor | undefined;
  readonly gradFinal: Tensor | undefined;
  readonly gradX: Tensor | undefined;
  readonly gradInitial: Tensor | undefined;
  readonly gradWeight: Tensor | undefined;
  readonly gradBias: Tensor | undefined;
}

export function backward(
  { inputs, options, gradOutputs, gradInputs }: BackwardCall<ConvInputs, ConvOutputs, ConvOptions>,
  backend: WebGpuBackend,
): void {
  const { y: gradY, finalState: gradFinal } = gradOutputs;
  const { x: gradX, weight: gradWeight, bias: gradBias, initialState: gradInitial } = gradInputs;
  if (!gradY && !gradFinal) return;
  const wide = [inputs.x, gradY, gradX].filter((tensor) => tensor !== undefined);
  const pieces = piecesOf(rowsPerBinding(backend, wide), inputs.x.shape);
  scope(() => {
    const states = statesBefore(backend, inputs, pieces);
    let gradState: Tensor | undefined;
    // Backwards, for a piece's final state is the next one's initial state.
    for (const [i, piece] of [...pieces.entries()].toReversed()) {
      const own = cutInputs(inputs, piece, states[i]);
      const final = piece.isLast ? gradFinal && entriesOf(gradFinal, piece) : gradState;
      gradState = piece.isFirst
        ? gradInitial && entriesOf(gradInitial, piece)
        : zeros(backend, stateShape(own.x, own.weight));
      backwardPiece(backend, own, options, {
        gradY: gradY && cut(gradY, piece),
        gradFinal: final,
        gradX: gradX && cut(gradX, piece),
        gradInitial: gradState,
        gradWeight,
        gradBias,
      });
    }
  });
}

/** For each piece that does not begin its sequences: the inputs before it. */
function statesBefore(backend: WebGpuBackend, inputs: ConvInputs, pieces: readonly Piece[]): (Tensor | undefined)[] {
  const states: (Tensor | undefined)[] = [];
  let state: Tensor | undefined;
  for (const piece of pieces) {
    states.push(state);
    if (piece.isLast) continue;
    const own = endOf(cutInputs(inputs, piece, state));
    state = emptyTensor(backend, stateShape(own.x, own.weight));
    forwardPiece(backend, own, { y: undefined, finalState: state }, {});
  }
  return states;
}

/** The last inputs of one sequence, those that its final state holds. */
function endOf(inputs: ConvInputs): ConvInputs {
  const { x, weight, documentStarts } = inputs;
  const length = x.shape[1];
  const count = weight.columns - 1;
  if (length <= count) return inputs;
  return {
    ...inputs,
    x: x.rowsOf(length - count, count).reshape([1, count, x.columns]),
    initialState: undefined,
    documentStarts: documentStarts?.columnsOf(length - count, length),
  };
}

function stateShape(x: Tensor, weight: Tensor): readonly number[] {
  return [x.shape[0], weight.columns - 1, x.columns];
}

/** Runs the kernel over tensors that bindings hold. */
export function backwardPiece(
  backend: WebGpuBackend,
  { x, weight, bias, initialState, documentStarts }: ConvInputs,
  { silu = false }: ConvOptions,
  gradients: Gradients,
  wanted: Partial<ConvPlan> = {},
): void {
  const { gradY, gradFinal, gradX, gradInitial, gradWeight, gradBias } = gradients;
  const [batch, length, channels] = x.shape;
  const taps = weight.columns;
  const width = vectorWidthOf(x, bias, initialState, gradY, gradFinal, gradX, gradInitial);
  const columns = channels / width;
  const { steps, atOnce } = { ...planOf(backend, batch * columns, length, true), ...wanted };
  const chunks = Math.ceil(length / steps);
  const rows = batch * chunks;
  const blocks = Math.ceil(rows / LANES);
  const kernel = convBackward({
    x: x.dtype,
    width,
    taps,
    silu,
    bias: bias !== undefined,
    initial: initialState ? "state" : "zeros",
    starts: documentStarts !== undefined,
    atOnce,
    gradY: gradY?.dtype,
    gradFinal: gradFinal !== undefined,
    gradX: gradientUse(backend, gradX),
    gradInitial: gradientUse(backend, gradInitial),
    sums: gradY !== undefined && (gradWeight ?? gradBias) !== undefined,
  });
  scope(() => {
    const sums = gradY && (gradWeight ?? gradBias);
    const partials = sums && emptyTensor(backend, [blocks, (taps + 1) * channels]);
    const optional = { bias, initialState, documentStarts, gradY, gradFinal, gradX, gradInitial, partials };
    backend.dispatch(kernel, { x, weight, ...presentOf(optional) }, { rows, columns, length, chunks, steps }, [
      Math.ceil(columns / SPAN),
      blocks,
    ]);
    if (partials && gradWeight) addPartialSums(backend, partials.columnsOf(0, taps * channels), gradWeight);
    if (partials && gradBias)
      addPartialSums(backend, partials.columnsOf(taps * channels, (taps + 1) * channels), gradBias);
  });
}

type BackwardSpec = WindowSpec & {
  gradY: string | undefined;
  gradFinal: boolean;
  gradX: BufferUse | undefined;
  gradInitial: BufferUse | undefined;
  /** Whether sums for weight and bias are wanted. */
  sums: boolean;
};

const convBackward = defineKernel<BackwardSpec>(
  "causalConv1dBackward",
  [
    {
      x: "f32",
      width: 4,
      taps: 4,
      silu: true,
      bias: true,
      initial: "state",
      starts: true,
      atOnce: 4,
      gradY: "f32",
      gradFinal: true,
      gradX: "add f32",
      gradInitial: "write f32",
      sums: true,
    },
    {
      x: "f16",
      width: 1,
      taps: 2,
      silu: false,
      bias: false,
      initial: "zeros",
      starts: false,
      atOnce: 4,
      gradY: "f16",
      gradFinal: false,
      gradX: undefined,
      gradInitial: undefined,
      sums: true,
    },
    {
      x: "f32",
      width: 1,
      taps: 3,
      silu: true,
      bias: true,
      initial: "zeros",
      starts: false,
      atOnce: 4,
      gradY: undefined,
      gradFinal: true,
      gradX: "write f32",
      gradInitial: undefined,
      sums: false,
    },
  ],
  (spec) => ({
    buffers: {
      ...windowBuffers(spec),
      ...(spec.gradY && { gradY: vectorUse(`read ${spec.gradY}`, spec.width) }),
      ...(spec.gradFinal && { gradFinal: vectorUse("read f32", spec.width) }),
      ...(spec.gradX && { gradX: vectorUse(spec.gradX, spec.width) }),
      ...(spec.gradInitial && { gradInitial: vectorUse(spec.gradInitial, spec.width) }),
      ...(spec.sums && { partials: `write ${vectorType("f32", spec.width)}` as BufferUse }),
    },
    params: ["rows", "columns", "length", "chunks", "steps"],
    body: floatsOf(spec.width) + windowText(spec) + GRADIENT_STATE + emitText(spec) + walkText(spec) + entryText(spec),
  }),
);

const GRADIENT_STATE = /* wgsl */ `
const SPAN = ${SPAN}u;
const LANES = ${LANES}u;
/** Gradients of the inputs in the window, as far as they are known. */
var<private> pending: array<Floats, TAPS>;
/** How many inputs before the newest may be seen from it. */
var<private> reach: u32;
var<private> weight_sums: array<Floats, TAPS + 1>;
var<workgroup> shared_sums: array<Floats, (TAPS + 1) * SPAN * LANES>;`;

/** The oldest input of the window leaves it: nothing is added to its gradient any more. */
const emitText = ({ width, gradX, gradInitial }: BackwardSpec): string => /* wgsl */ `
fn emit(b: u32, start: u32, now: u32, column: u32) {
  let value = pending[0];
  if (now + 1u >= start + TAPS) {
    ${gradX ? storeTo("gradX", gradX, width, { row: "b * params.length + now + 1u - TAPS", value: "value" }) : ""}
  } else if (start == 0u) {
    ${gradInitial ? storeTo("gradInitial", gradInitial, width, { row: "b * (TAPS - 1u) + now", value: "value" }) : ""}
  }
}`;

/** Walks over the stretch [start, end) and TAPS - 1 steps beyond, whose gradients reach back into it. */
const walkText = ({ gradY, gradFinal, starts }: BackwardSpec): string => /* wgsl */ `
/** Whether input k of the window may be seen from its newest. */
fn is_seen(k: u32) -> bool { return ${starts ? "k + reach + 1u >= TAPS" : "true"}; }

fn walk(b: u32, start: u32, end: u32, column: u32) {
  var weights: array<Floats, TAPS>;
  for (var k = 0u; k < TAPS; k++) { weights[k] = weight_of(column, k); }
  let shift = bias_of(column);
  see_before(b, start, column);
  ${starts ? REACH_BEFORE : ""}
  let stop = end + TAPS - 1u;
  for (var t = start; t < stop; t += AT_ONCE) {
    var inputs: array<Floats, AT_ONCE>;
    var grads: array<Floats, AT_ONCE>;
    for (var i = 0u; i < AT_ONCE; i++) {
      let time = min(t + i, params.length - 1u);
      inputs[i] = input_at(b, time, column);
      ${gradY ? `grads[i] = Floats(${vectorAt("gradY", "b * params.length + time")});` : ""}
    }
    for (var i = 0u; i < AT_ONCE; i++) {
      let now = t + i;
      if (now >= stop) { break; }
      let is_input = now < params.length;
      let starts_here = is_input && is_start(b, now);
      see(inputs[i], starts_here);
      ${starts ? "reach = select(min(reach + 1u, TAPS - 1u), 0u, starts_here);" : ""}
      var sum = shift;
      for (var k = 0u; k < TAPS; k++) { sum += weights[k] * seen[k]; }
      let grad = select(Floats(0), grads[i] * slope_of(sum), is_input);
      for (var k = 1u; k < TAPS; k++) { pending[k - 1u] = pending[k]; }
      pending[TAPS - 1u] = Floats(0);
      for (var k = 0u; k < TAPS; k++) {
        if (is_seen(k)) { pending[k] += weights[k] * grad; }
        if (now < end) { weight_sums[k] += grad * seen[k]; }
      }
      if (now < end) { weight_sums[TAPS] += grad; }
      ${gradFinal ? ADD_FINAL : ""}
      emit(b, start, now, column);
    }
  }
}`;

const REACH_BEFORE = /* wgsl */ `
  reach = TAPS - 1u;
  for (var back = min(TAPS - 1u, start); back > 0u; back--) {
    reach = select(min(reach + 1u, TAPS - 1u), 0u, is_start(b, start - back));
  }`;

/** The final state is the end of the window at the last step. */
const ADD_FINAL = /* wgsl */ `
      if (now + 1u == params.length) {
        for (var k = 1u; k < TAPS; k++) {
          if (is_seen(k)) { pending[k] += ${vectorAt("gradFinal", "b * (TAPS - 1u) + k - 1u")}; }
        }
      }`;

const entryText = ({ sums }: BackwardSpec): string => /* wgsl */ `
@compute @workgroup_size(SPAN * LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let column = group.x * SPAN + thread % SPAN;
  let lane = thread / SPAN;
  let row = group.y * LANES + lane;
  if (row < params.rows && column < params.columns) {
    let start = (row % params.chunks) * params.steps;
    walk(row / params.chunks, start, min(start + params.steps, params.length), column);
  }
  ${sums ? ADD_LANES : ""}
}`;

/** partials[block, k · channels + channel]: the lanes' sums, added in their order; k = TAPS for the bias. */
const ADD_LANES = /* wgsl */ `
  for (var k = 0u; k <= TAPS; k++) { shared_sums[k * SPAN * LANES + thread] = weight_sums[k]; }
  workgroupBarrier();
  for (var i = thread; i < (TAPS + 1u) * SPAN; i += SPAN * LANES) {
    let first = (i / SPAN) * SPAN * LANES + i % SPAN;
    var sum = shared_sums[first];
    for (var other = 1u; other < LANES; other++) { sum += shared_sums[first + other * SPAN]; }
    let to = group.x * SPAN + i % SPAN;
    if (to < params.columns) { ${vectorAt("partials", "group.y", "(i / SPAN) * params.columns + to")} = sum; }
  }`;
