// Tape: remembers the ops of a computation and walks them backwards, adding up gradients (reverse mode).
import { ShapeError } from "../core/errors.ts";
import { formatShape } from "../core/shape.ts";
import type { Parameter } from "./parameter.ts";
import { keep } from "./scope.ts";
import type { Tensor } from "./tensor.ts";
import { copyInto, zeros } from "./tensor.ts";

/** One op that ran while a tape was recording. */
export interface TapeNode {
  readonly outputs: Readonly<Record<string, Tensor | undefined>>;
  /** Adds this op's part to the gradients of its inputs, from those of its outputs. */
  backward(tape: Tape): void;
}

let recording: Tape | undefined;

/** The tape that records now. */
export function currentTape(): Tape | undefined {
  return recording;
}

/**
 * Reverse-mode differentiation: `tape.record(() => loss = ...)`, then `tape.backward(loss)`. Gradients of parameters add up
 * in `Parameter.grad`; those of other leaves are asked for with {@link Tape.gradOf}. One tape serves one computation.
 */
export class Tape {
  readonly #nodes: TapeNode[] = [];
  readonly #grads = new Map<Tensor, Tensor>();
  readonly #parameters = new Map<Tensor, Parameter>();
  readonly #outer: { readonly tape: Tape; readonly inputs: ReadonlySet<Tensor> } | undefined;

  /**
   * @param parameters those whose `grad` the backward pass adds to
   * @param outer a tape that this one is a part of, and the tensors whose gradients are that tape's; see checkpoint.ts
   */
  constructor(parameters: Iterable<Parameter> = [], outer?: { tape: Tape; inputs: readonly Tensor[] }) {
    for (const parameter of parameters) this.#parameters.set(parameter.tensor, parameter);
    this.#outer = outer && { tape: outer.tape, inputs: new Set(outer.inputs.map((input) => input.base ?? input)) };
  }

  /** Those whose `grad` the backward pass adds to. */
  get parameters(): Iterable<Parameter> {
    return this.#parameters.values();
  }

  /** Runs `body` and remembers its differentiable ops. Of tapes within tapes, the innermost remembers. */
  record<T>(body: () => T): T {
    return recordOn(this, body);
  }

  add(node: TapeNode): void {
    this.#nodes.push(node);
  }

  /**
   * Gradients of `output` (or of several outputs, each weighted by a seed of its shape) by every tensor that requires
   * them. `seed` may be a number for a scalar output: d(seed * output).
   */
  backward(output: Tensor, seed: number | Tensor = 1): void {
    this.seed(output, seed);
    this.run();
  }

  /** Sets the incoming gradient of one output. */
  seed(output: Tensor, seed: number | Tensor): void {
    if (typeof seed === "number" && output.size !== 1)
      throw new ShapeError(
        `Tape.backward: a number seeds a scalar only, and the output is ${formatShape(output.shape)}. Give a tensor of that shape.`,
      );
    const base = output.base ?? output;
    const grad = this.gradForAdding(base);
    const place = output.base ? grad.viewAs(output) : grad;
    if (typeof seed === "number") place.write(new Float64Array([seed]));
    else if (place.dtype === seed.dtype) copyInto(seed, place);
    else place.write(seed.readNow());
  }

  /** Walks the remembered ops backwards, once. */
  run(): void {
    for (let i = this.#nodes.length - 1; i >= 0; i--) {
      const node = this.#nodes[i];
      const outputs = Object.values(node.outputs).filter((output) => output !== undefined);
      if (outputs.some((output) => this.#grads.has(output))) node.backward(this);
      for (const output of outputs) this.#forget(output);
    }
    this.#nodes.length = 0;
  }

  /** The gradient of a tensor, if anything contributed to it. For a parameter see `Parameter.grad`. */
  gradOf(tensor: Tensor): Tensor | undefined {
    const base = tensor.base ?? tensor;
    const grad = this.#grads.get(base);
    return grad && (tensor.base ? grad.viewAs(tensor) : grad);
  }

  /** The gradient of a tensor to add to, zero at the first call. That of a view shows its base's. */
  gradForAdding(tensor: Tensor): Tensor {
    const base = tensor.base ?? tensor;
    if (this.#outer?.inputs.has(base)) return this.#outer.tape.gradForAdding(tensor);
    let grad = this.#parameters.get(base)?.gradForAdding() ?? this.#grads.get(base);
    if (!grad) {
      grad = zeros(base.backend, base.shape, base.dtype);
      this.#grads.set(base, grad);
    }
    return tensor.base ? grad.viewAs(tensor) : grad;
  }

  /** Takes the gradient of a whole tensor out, if anything contributed to it: its taker disposes of it. */
  takeGrad(tensor: Tensor): Tensor | undefined {
    const grad = this.#grads.get(tensor);
    this.#grads.delete(tensor);
    return grad && keep(grad);
  }

  /** Makes the gradient of an output that of an input, where that has none yet, instead of adding it. @returns whether it did */
  passGrad(output: Tensor, input: Tensor): boolean {
    const grad = this.#grads.get(output);
    const isElsewhere = this.#parameters.has(input) || (this.#outer?.inputs.has(input) ?? false);
    if (!grad || !input.requiresGrad || input.base || isElsewhere || this.#grads.has(input)) return false;
    if (input.dtype !== output.dtype) return false;
    this.#grads.delete(output);
    this.#grads.set(input, grad);
    return true;
  }

  /** Sets the incoming gradient of a whole output to a tensor, which becomes this tape's. */
  giveGrad(output: Tensor, grad: Tensor): void {
    this.#grads.set(output, grad);
  }

  #forget(output: Tensor): void {
    const grad = this.#grads.get(output);
    if (!grad) return;
    this.#grads.delete(output);
    keep(grad).dispose();
  }
}

/** Runs `body` without any tape. */
export function withoutTape<T>(body: () => T): T {
  return recordOn(undefined, body);
}

function recordOn<T>(tape: Tape | undefined, body: () => T): T {
  const before = recording;
  recording = tape;
  try {
    return body();
  } finally {
    recording = before;
  }
}
