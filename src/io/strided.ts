// Reads a tensor that is a view of its storage (transposed, sliced) into row-major order, in one pass over the file.
import type { RandomAccessFile } from "./file-source.ts";
import { PIECE_BYTES, streamElements } from "./elements.ts";
import type { FileElements } from "./elements.ts";
import { BYTES_PER_FILE_ELEMENT } from "./tensor-info.ts";
import type { FileDType } from "./tensor-info.ts";

/** A view of a storage; offset and strides in elements. */
export interface StridedView {
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

interface Axis {
  readonly size: number;
  readonly stride: number;
  /** Distance of neighbours along this axis in the row-major output. */
  readonly outputStride: number;
}

/** Whether a view is row-major without gaps, so that elements can be read as they lie. */
export function isContiguous({ shape, strides }: StridedView): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis];
  }
  return true;
}

/** Axes of more than one element, largest stride first: the order in which elements lie in the storage. */
function axesInStorageOrder({ shape, strides }: StridedView): Axis[] {
  const axes: Axis[] = [];
  let outputStride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1) axes.push({ size: shape[axis], stride: strides[axis], outputStride });
    outputStride *= shape[axis];
  }
  return axes.sort((a, b) => b.stride - a.stride);
}

/** Whether no two elements share memory and axes nest, as in every slice, transpose and permutation of a contiguous tensor. */
export function isNested(view: StridedView): boolean {
  let span = 1;
  for (const { size, stride } of axesInStorageOrder(view).toReversed()) {
    if (stride < span) return false;
    span += (size - 1) * stride;
  }
  return true;
}

/** Elements that a view spans in its storage, from its first to its last. */
export function spanOf({ shape, strides }: StridedView): number {
  return shape.reduce((span, size, axis) => span + (size - 1) * strides[axis], 1);
}

/** A view in a file, and the run of its row-major elements that is wanted. */
export interface StridedRead {
  readonly dtype: FileDType;
  /** First byte of the storage in the file. */
  readonly base: number;
  /** Nested and not empty. */
  readonly view: StridedView;
  readonly start: number;
  readonly count: number;
}

/**
 * target[i] = element `start + i` of the view, for i < count. The storage is read forward, at most 1 MiB at a time,
 * because a nested view that is visited largest stride first never goes back.
 * @param convert gives the elements of a piece as they are to be in the target
 */
export async function readStrided<Values extends Float32Array | Int32Array>(
  file: RandomAccessFile,
  { dtype, base, view, start, count }: StridedRead,
  target: Values,
  convert: (elements: FileElements) => Values,
): Promise<void> {
  const end = view.offset + spanOf(view);
  const elementBytes = BYTES_PER_FILE_ELEMENT[dtype];
  let piece: Values | undefined;
  let pieceStart = 0;
  for (const [index, output] of visit(axesInStorageOrder(view), view.offset)) {
    if (output < start || output >= start + count) continue;
    if (piece === undefined || index >= pieceStart + piece.length) {
      pieceStart = index;
      piece = await readPiece(
        file,
        dtype,
        base + index * elementBytes,
        Math.min(PIECE_BYTES / elementBytes, end - index),
        convert,
      );
    }
    target[output - start] = piece[index - pieceStart];
  }
}

async function readPiece<Values>(
  file: RandomAccessFile,
  dtype: FileDType,
  offset: number,
  count: number,
  convert: (elements: FileElements) => Values,
): Promise<Values> {
  let piece: Values | undefined;
  await streamElements(file, dtype, offset, count, (elements) => {
    piece = convert(elements);
  });
  return piece as Values;
}

/** Every element as [index in the storage, index in the output], in rising order of the first. */
function* visit(axes: readonly Axis[], offset: number): Generator<[number, number]> {
  const position = axes.map(() => 0);
  let index = offset;
  let output = 0;
  for (;;) {
    yield [index, output];
    let axis = axes.length - 1;
    while (axis >= 0 && position[axis] === axes[axis].size - 1) {
      index -= position[axis] * axes[axis].stride;
      output -= position[axis] * axes[axis].outputStride;
      position[axis] = 0;
      axis--;
    }
    if (axis < 0) return;
    position[axis]++;
    index += axes[axis].stride;
    output += axes[axis].outputStride;
  }
}
