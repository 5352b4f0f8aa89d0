// What lstm and gru ask of their inputs.
import { DTypeError, ShapeError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** The sizes of a recurrent layer's inputs. */
export interface RecurrentSizes {
  readonly batch: number;
  readonly length: number;
  readonly dHidden: number;
}

/** Sizes after what `gates` and `weight` say; nothing is checked. */
export function recurrentSizes({ gates, weight }: { gates: Tensor; weight: Tensor }): RecurrentSizes {
  const [batch, length] = gates.shape;
  return { batch, length, dHidden: weight.columns };
}

/**
 * Checks gates `[batch, length >= 1, count · dHidden]`, weight `[count · dHidden, dHidden]`, documentStarts
 * `[batch, length]`, and `others`, whose shapes follow from the sizes.
 * @throws ShapeError, DTypeError
 */
export function checkRecurrent(
  op: string,
  count: number,
  inputs: { readonly gates: Tensor; readonly weight: Tensor; readonly documentStarts?: Tensor | undefined },
  others: (sizes: RecurrentSizes) => readonly (readonly [name: string, tensor: Tensor | undefined, shape: Shape])[],
): RecurrentSizes {
  const { gates, weight, documentStarts } = inputs;
  const sizes = recurrentSizes(inputs);
  const { batch, length, dHidden } = sizes;
  if (weight.shape.length !== 2 || dHidden === 0 || weight.rows !== count * dHidden)
    throw new ShapeError(`${op}: weight must be [${count} dHidden, dHidden], got ${formatShape(weight.shape)}.`);
  if (gates.shape.length !== 3 || !length || gates.columns !== count * dHidden)
    throw new ShapeError(
      `${op}: gates must be [batch, length >= 1, ${count} dHidden] with dHidden = ${dHidden}, got ${formatShape(gates.shape)}.`,
    );
  const all = [...others(sizes), ["documentStarts", documentStarts, [batch, length]] as const];
  for (const [name, tensor, shape] of all)
    if (tensor && !isSameShape(tensor.shape, shape))
      throw new ShapeError(`${op}: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
  if (documentStarts && documentStarts.dtype !== "i32")
    throw new DTypeError(`${op}: documentStarts must be i32, got ${documentStarts.dtype}.`);
  for (const [name, tensor] of [["weight", weight] as const, ...others(sizes)])
    if (tensor && tensor.dtype !== "f32")
      throw new DTypeError(`${op}: ${name} must be f32, got ${tensor.dtype}. Only gates, and with them y, may be f16.`);
  return sizes;
}
