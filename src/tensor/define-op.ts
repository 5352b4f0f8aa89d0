// defineOp: states an op once (shape rule, what is saved, kernels by device, gradient) and makes it callable.
import type { DeviceName } from "../backends/backend.ts";
import type { ReferenceStorage } from "../backends/reference/index.ts";
import type { WasmBackend, WasmStorage } from "../backends/wasm/index.ts";
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import type { DType } from "../core/dtype.ts";
import { isReal, BYTES_PER_ELEMENT } from "../core/dtype.ts";
import { BackendError } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import { currentTape } from "./tape.ts";
import type { Tape } from "./tape.ts";
import type { Tensor } from "./tensor.ts";
import { emptyTensor } from "./tensor.ts";

/** Tensors by name; an optional one may be undefined. */
export type Tensors = { readonly [name: string]: Tensor | undefined };

/** What an output or a saved tensor looks like, before it exists. dtype: f32 unless said otherwise. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype?: DType;
}

/** What a forward kernel is given. */
export interface ForwardCall<I, O, Options> {
  readonly inputs: I;
  readonly outputs: O;
  /** The tensors of {@link OpDefinition.saves}, to be filled; undefined when no backward pass will come. */
  readonly saved: Readonly<Record<string, Tensor>> | undefined;
  readonly options: Options;
}

/** What a backward kernel is given. */
export interface BackwardCall<I, O, Options> {
  readonly inputs: I;
  readonly outputs: O;
  readonly saved: Readonly<Record<string, Tensor>>;
  readonly options: Options;
  /** Gradients that came in, undefined for an output that nothing used. */
  readonly gradOutputs: { readonly [K in keyof O]?: Tensor | undefined };
  /** Gradients to ADD to, undefined for an input that needs none. Same shape as the input, own row stride. */
  readonly gradInputs: { readonly [K in keyof I]?: Tensor | undefined };
}

type Kernels<Call> = {
  readonly reference: (call: Call) => void;
  readonly wasm?: (call: Call, backend: WasmBackend) => void;
  readonly webgpu?: (call: Call, backend: WebGpuBackend) => void;
};

/** An op, stated once: name, shape rule, kernels by device, gradient. */
export interface OpDefinition<I extends Tensors, O extends Tensors, Options> {
  readonly name: string;
  /** Checks the inputs, throws the op's ShapeErrors, and says what the outputs look like. */
  readonly shape: (inputs: I, options: Options) => { readonly [K in keyof O]: TensorSpec };
  /** Tensors that the forward kernel fills for the backward one, beside inputs and outputs. */
  readonly saves?: (inputs: I, options: Options) => Record<string, TensorSpec>;
  readonly kernels: Kernels<ForwardCall<I, O, Options>>;
  readonly gradient?: {
    /** The inputs that have a gradient. */
    readonly of: readonly (keyof I & string)[];
    /** An input whose gradient is that of the only output: it is handed on where nothing else was added to it before. */
    readonly passesTo?: keyof I & string;
    readonly kernels: Kernels<BackwardCall<I, O, Options>>;
  };
}

/**
 * An op as a function. `into` names outputs to write instead of making new ones (a state updated in place); not while
 * a tape records.
 */
export interface Op<I extends Tensors, O extends Tensors, Options> {
  (inputs: I, options: Options, into?: Partial<O>): O;
  readonly definition: OpDefinition<I, O, Options>;
}

/** Makes an op callable: checks, allocates, runs the device's kernel, and tells the tape. */
export function defineOp<I extends Tensors, O extends Tensors, Options = Record<string, never>>(
  definition: OpDefinition<I, O, Options>,
): Op<I, O, Options> {
  const op = (inputs: I, options: Options, into?: Partial<O>): O => {
    const backend = commonBackend(definition.name, inputs);
    const specs = definition.shape(inputs, options);
    const needs = currentTape() && definition.gradient?.of.some((name) => inputs[name]?.requiresGrad);
    const outputs = makeTensors(backend, specs, into) as O;
    const saved = needs && definition.saves ? makeTensors(backend, definition.saves(inputs, options)) : undefined;
    runKernel(definition, "kernels", definition.kernels, backend, { inputs, outputs, saved: saved, options });
    if (needs) recordOn(currentTape()!, definition, inputs, outputs, saved ?? {}, options);
    return outputs;
  };
  return Object.assign(op, { definition });
}

function recordOn<I extends Tensors, O extends Tensors, Options>(
  tape: Tape,
  definition: OpDefinition<I, O, Options>,
  inputs: I,
  outputs: O,
  saved: Readonly<Record<string, Tensor>>,
  options: Options,
): void {
  const { of, kernels, passesTo } = definition.gradient!;
  for (const output of Object.values(outputs)) if (output && isReal(output.dtype)) output.requiresGrad = true;
  tape.add({
    outputs,
    backward(walking) {
      const gradOutputs: Record<string, Tensor | undefined> = {};
      for (const [name, output] of Object.entries(outputs)) gradOutputs[name] = output && walking.gradOf(output);
      const gradInputs: Record<string, Tensor | undefined> = {};
      const isPassed = passesTo !== undefined && passGrad(walking, inputs, outputs, passesTo);
      for (const name of of)
        if (inputs[name]?.requiresGrad && !(isPassed && name === passesTo))
          gradInputs[name] = walking.gradForAdding(inputs[name]);
      const call = { inputs, outputs, saved, options, gradOutputs, gradInputs } as BackwardCall<I, O, Options>;
      runKernel(definition, "gradient", kernels, backendOf(outputs), call);
    },
  });
}

/** Hands the gradient of the only output on to an input. @returns whether it could: not to one that comes in twice */
function passGrad(tape: Tape, inputs: Tensors, outputs: Tensors, name: string): boolean {
  const input = inputs[name];
  const [output] = Object.values(outputs);
  const uses = Object.values(inputs).filter((other) => other && (other.base ?? other) === input);
  return input !== undefined && output !== undefined && uses.length === 1 && tape.passGrad(output, input);
}

/** Runs an op's kernel as a part of another op's kernel: nothing is checked, made or recorded. */
export function runForward<I extends Tensors, O extends Tensors, Options>(
  { definition }: Op<I, O, Options>,
  call: ForwardCall<I, O, Options>,
): void {
  runKernel(definition, "kernels", definition.kernels, backendOf(call.outputs), call);
}

/** {@link runForward} of the gradient. */
export function runBackward<I extends Tensors, O extends Tensors, Options>(
  { definition }: Op<I, O, Options>,
  call: BackwardCall<I, O, Options>,
): void {
  runKernel(definition, "gradient", definition.gradient!.kernels, backendOf(call.outputs), call);
}

function backendOf(tensors: Tensors): Tensor["backend"] {
  return Object.values(tensors).find((tensor) => tensor !== undefined)!.backend;
}

function runKernel<Call>(
  definition: { readonly name: string },
  what: "kernels" | "gradient",
  kernels: Kernels<Call>,
  backend: Tensor["backend"],
  call: Call,
): void {
  if (backend.name === "reference") kernels.reference(call);
  else if (backend.name === "wasm" && kernels.wasm) kernels.wasm(call, backend as WasmBackend);
  else if (backend.name === "webgpu" && kernels.webgpu)
    labelled(backend as WebGpuBackend, definition.name, () => kernels.webgpu!(call, backend as WebGpuBackend));
  else {
    const have = (["reference", "wasm", "webgpu"] as DeviceName[]).filter((name) => name in kernels);
    throw new BackendError(
      `${definition.name}: no ${what === "gradient" ? "gradient " : ""}kernel for ${backend.name}; there is one for ${have.join(", ")}.`,
    );
  }
}

/** Errors of a kernel name the op: those thrown at once here, those that the device finds later by the kernel's label. */
function labelled(backend: WebGpuBackend, op: string, body: () => void): void {
  const outer = backend.label;
  backend.label = outer ? `${outer}: ${op}` : op;
  try {
    body();
  } finally {
    backend.label = outer;
  }
}

function commonBackend(name: string, inputs: Tensors): Tensor["backend"] {
  let backend: Tensor["backend"] | undefined;
  for (const [key, tensor] of Object.entries(inputs)) {
    if (!tensor) continue;
    backend ??= tensor.backend;
    if (tensor.backend !== backend)
      throw new BackendError(
        `${name}: all inputs must be on one device, and ${key} is on ${tensor.backend.name} while another is on ${backend.name}.`,
      );
    if (tensor.isDisposed)
      throw new BackendError(`${name}: the memory of ${key} was given back. Keep it (see scope) or make it anew.`);
  }
  if (!backend) throw new BackendError(`${name}: no input was given.`);
  return backend;
}

function makeTensors(
  backend: Tensor["backend"],
  specs: { readonly [name: string]: TensorSpec },
  into?: Partial<Tensors>,
): Record<string, Tensor> {
  const made: Record<string, Tensor> = {};
  for (const name in specs) made[name] = into?.[name] ?? emptyTensor(backend, specs[name].shape, specs[name].dtype);
  return made;
}

/** Byte address of a tensor's first element in the WASM memory; 0 for none. */
export function pointer(tensor: Tensor | undefined): number {
  if (!tensor) return 0;
  return (tensor.storage as WasmStorage).pointer + tensor.offset * BYTES_PER_ELEMENT[tensor.dtype];
}

/** The host array behind a tensor of the reference backend. Element (row, column) is at offset + row * rowStride + column. */
export function hostData(tensor: Tensor): Float64Array {
  return (tensor.storage as ReferenceStorage).data as Float64Array;
}
