// Parameter: a weight of a model, and its gradient. Made without a value, so that loading decides how it lies in memory.
import { CheckpointError, ShapeError } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import { formatShape, isSameShape } from "../core/shape.ts";
import { keep } from "./scope.ts";
import type { Tensor } from "./tensor.ts";
import { zeros } from "./tensor.ts";

/** What training and packing may do to a parameter. */
export interface ParameterOptions {
  /** Whether AdamW's weight decay applies; not to A_log, D, biases and norms. Default true. */
  decays?: boolean;
  /** Whether it is only used in products and look-ups of rows, so that it may be packed or quantised. Default false. */
  isPackable?: boolean;
}

/** A weight that training changes: its value, its gradient, and a version that rises with each change. */
export class Parameter {
  readonly shape: Shape;
  readonly decays: boolean;
  readonly isPackable: boolean;
  #tensor: Tensor | undefined;
  #grad: Tensor | undefined;
  #version = 0;

  constructor(shape: Shape, { decays = true, isPackable = false }: ParameterOptions = {}) {
    this.shape = shape;
    this.decays = decays;
    this.isPackable = isPackable;
  }

  /** Whether it has a value. */
  get isAssigned(): boolean {
    return this.#tensor !== undefined;
  }

  get tensor(): Tensor {
    if (!this.#tensor)
      throw new CheckpointError(
        `A parameter ${formatShape(this.shape)} has no value yet. Initialise the model or load a checkpoint first.`,
      );
    return this.#tensor;
  }

  /** Rises with every change of the value, for those who keep something derived from it. */
  get version(): number {
    return this.#version;
  }

  /** The gradient so far, the same shape as the tensor; undefined before the first backward pass. */
  get grad(): Tensor | undefined {
    return this.#grad;
  }

  /** Gives it a value, in the place of the old one, which is disposed. */
  assign(tensor: Tensor): void {
    if (!isSameShape(tensor.shape, this.shape))
      throw new ShapeError(
        `Parameter.assign: the value must be ${formatShape(this.shape)}, got ${formatShape(tensor.shape)}.`,
      );
    this.#tensor?.dispose();
    this.#tensor = keep(tensor);
    tensor.requiresGrad = tensor.format === "rows";
    this.#version++;
  }

  /** To be called after the tensor's elements were changed in place (by an optimizer). */
  markChanged(): void {
    this.#version++;
  }

  /** The gradient to add to; made of zeros at the first call. */
  gradForAdding(): Tensor {
    this.#grad ??= keep(zeros(this.tensor.backend, this.shape));
    return this.#grad;
  }

  /** Sets the gradient to zero. */
  clearGrad(): void {
    if (this.#grad) this.#grad.backend.clear(this.#grad.storage);
  }

  dispose(): void {
    this.#tensor?.dispose();
    this.#grad?.dispose();
    this.#tensor = undefined;
    this.#grad = undefined;
  }
}
