// Shapes: sizes of the axes, row-major, the last axis contiguous.

/** Sizes of the axes, for example `[batch, length, dModel]`. */
export type Shape = readonly number[];

/** Number of elements of a shape; 1 for a scalar `[]`. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const axis of shape) size *= axis;
  return size;
}

/** `[2, 512, 16]`, for messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Whether two shapes have the same axes. */
export function isSameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((axis, i) => axis === b[i]);
}
