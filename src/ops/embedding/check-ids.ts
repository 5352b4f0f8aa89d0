// Checks numbers of rows or classes on the host, before a kernel would read at an address that does not exist.
import { DataError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/**
 * Throws DataError for the first of `ids` outside of 0..limit-1, except `allowed`. Ids that only the
 * device knows are not checked. It cannot be part of a plan that is replayed with other ids.
 * @param what names the thing in messages: "embedding: token id"
 */
export function checkIds(what: string, ids: Tensor, limit: number, allowed?: number): void {
  const data = ids.peek();
  if (!data) return; // made on the device: its kernels give NaN for an id out of range
  const wrong = data.findIndex((id) => !(id >= 0 && id < limit) && id !== allowed);
  if (wrong < 0) return;
  const position: number[] = [];
  for (let axis = ids.shape.length - 1, rest = wrong; axis >= 0; axis--) {
    position.unshift(rest % ids.shape[axis]);
    rest = Math.floor(rest / ids.shape[axis]);
  }
  const exception = allowed === undefined ? "" : ` (or ${allowed}, which is ignored)`;
  throw new DataError(
    `${what} ${data[wrong]} at position ${formatShape(position)} is outside of the vocabulary of ${limit}: ids go from 0 to ${limit - 1}${exception}. Was the text encoded by another model's tokenizer?`,
  );
}
