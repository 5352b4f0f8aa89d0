// A tensor's memory on a GPU, and zeros that are promised but not written yet.
import type { DType, HostArray } from "../../core/dtype.ts";
import type { Storage } from "../backend.ts";

/** Columns that still hold zeros only by promise: of rows of `width` elements, the ranges [start, end). */
interface PromisedZeros {
  readonly width: number;
  readonly ranges: readonly (readonly [start: number, end: number])[];
}

export interface WebGpuStorage extends Storage {
  readonly dtype: DType;
  readonly count: number;
  readonly buffer: GPUBuffer;
  /** Set by clear(): nothing is written until somebody reads. A kernel that overwrites everything makes it true. */
  zeros: PromisedZeros | undefined;
  /** What the host wrote last, for ids; undefined once a kernel wrote. */
  mirror: HostArray | undefined;
  /** Rises whenever the contents may have changed. */
  version: number;
  /** What was computed from the contents and is kept beside them; see WebGpuBackend.derived. */
  derived: Map<string, Derived> | undefined;
}

/** Something computed from a storage, of the version that the storage had then. */
export interface Derived {
  readonly storage: WebGpuStorage;
  version: number;
}

/** Where elements lie in a storage: rows of `columns`, `rowStride` apart, from `offset` on. Tensors are such places. */
export interface Place {
  readonly storage: Storage;
  readonly offset: number;
  readonly rowStride: number;
  readonly rows: number;
  readonly columns: number;
}

/** What is known of a storage's contents, beside the contents. */
export type ContentState = Pick<WebGpuStorage, "zeros" | "mirror" | "version">;

export function contentState({ zeros, mirror, version }: WebGpuStorage): ContentState {
  return { zeros, mirror, version };
}

/** Promises zeros everywhere. */
export function promiseZeros(storage: WebGpuStorage): void {
  storage.zeros = { width: storage.count, ranges: [[0, storage.count]] };
}

/** Whether everything is promised still. Of a storage of one row, columns may be promised that are as wide as all of it. */
export function isWholePromised({ zeros, count }: WebGpuStorage): boolean {
  return zeros?.width === count && zeros.ranges.length === 1 && zeros.ranges[0][1] - zeros.ranges[0][0] === count;
}

/** Whether all elements of a place are zeros by promise, so that a kernel may overwrite instead of adding. */
export function isAllPromised(place: Place): boolean {
  const { zeros } = place.storage as WebGpuStorage;
  if (!zeros) return false;
  const [start, end] = rangeIn(place, zeros) ?? [];
  return start !== undefined && zeros.ranges.some(([from, to]) => from <= start && end! <= to);
}

/** Whether some element of a place is a zero by promise. */
export function isSomePromised(place: Place): boolean {
  const { zeros } = place.storage as WebGpuStorage;
  if (!zeros) return false;
  const range = columnsIn(place, zeros.width);
  return !range || zeros.ranges.some(([from, to]) => from < range[1] && range[0] < to);
}

/**
 * A kernel is about to overwrite a place: the promise is kept there. @returns false when the place does not cut the
 * promised columns cleanly: then the zeros must be written first.
 */
export function keepPromise(place: Place): boolean {
  const storage = place.storage as WebGpuStorage;
  const { zeros } = storage;
  if (!zeros) return true;
  const range = rangeIn(place, zeros);
  if (!range) return !isSomePromised(place);
  const [start, end] = range;
  const before = isWholePromised(storage) ? [[0, place.rowStride] as const] : zeros.ranges;
  const ranges = before.flatMap(([from, to]) =>
    [[from, Math.min(to, start)] as const, [Math.max(from, end), to] as const].filter(([a, b]) => a < b),
  );
  storage.zeros = ranges.length === 0 ? undefined : { width: place.rowStride, ranges };
  return true;
}

/** The columns [start, end) that a place covers in all rows of its storage, in the units of the promise. */
function rangeIn(place: Place, zeros: PromisedZeros): readonly [number, number] | undefined {
  const { count } = place.storage;
  const { rows, columns, rowStride, offset } = place;
  const isWhole = isWholePromised(place.storage as WebGpuStorage);
  if (isWhole && offset === 0 && rowStride === columns && rows * columns === count) return [0, rowStride];
  if (!isWhole && zeros.width !== rowStride) return undefined;
  if (rows * rowStride !== count || offset + columns > rowStride) return undefined;
  return [offset, offset + columns];
}

/** The columns that a place touches when the storage is seen as rows of `width`; undefined when that is not clear. */
function columnsIn({ offset, rowStride, columns }: Place, width: number): readonly [number, number] | undefined {
  if (rowStride !== width) return undefined;
  const start = offset % width;
  return start + columns <= width ? [start, start + columns] : undefined;
}
