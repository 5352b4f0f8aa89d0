// How queries, keys and values are cut into heads, and the rules about it.
import { ConfigError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Channels of a head, for which kernels have room. */
const MOST_CHANNELS = 256;

export interface Heads {
  readonly batch: number;
  /** Queries of a row of the batch. */
  readonly length: number;
  readonly nHeads: number;
  /** Heads of keys and values; query head i sees that of i / (nHeads / nKvHeads), rounded down. */
  readonly nKvHeads: number;
  /** Query heads that share one head of keys and values. */
  readonly group: number;
}

/** @throws ShapeError, ConfigError in the name of `op` */
export function headsOf(op: string, { q, k, v }: { q: Tensor; k: Tensor; v: Tensor }, headDim: number): Heads {
  const [batch, length] = q.shape;
  const nHeads = q.columns / headDim;
  const nKvHeads = k.columns / headDim;
  if (!(Number.isInteger(headDim) && headDim >= 1 && headDim <= MOST_CHANNELS))
    throw new ConfigError(`${op}: headDim must be within 1..${MOST_CHANNELS}, got ${headDim}.`);
  if (q.shape.length !== 3 || !length || !Number.isInteger(nHeads))
    throw new ShapeError(
      `${op}: q must be [batch, length >= 1, nHeads · headDim] with headDim ${headDim}, got ${formatShape(q.shape)}.`,
    );
  if (!isSameShape(k.shape, [batch, length, k.columns]) || !isSameShape(k.shape, v.shape))
    throw new ShapeError(
      `${op}: k and v must be [${batch}, ${length}, nKvHeads · headDim] as q is ${formatShape(q.shape)}, got ${formatShape(k.shape)} and ${formatShape(v.shape)}.`,
    );
  if (!Number.isInteger(nKvHeads) || nHeads % nKvHeads !== 0)
    throw new ShapeError(
      `${op}: the heads of q must be a multiple of those of k, got ${q.columns} and ${k.columns} columns with headDim ${headDim}.`,
    );
  return { batch, length, nHeads, nKvHeads, group: nHeads / nKvHeads };
}
