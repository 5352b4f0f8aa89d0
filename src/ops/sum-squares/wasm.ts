// sumSquares on the WASM backend: binds kernels/assembly/sum-squares.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Elements that one item adds up, of a tensor whose rows are closed up. */
const BLOCK = 1 << 14;

/** One float64 a block of each tensor, added up here in their order. */
export function sumSquares(tensors: readonly Tensor[], backend: WasmBackend): number {
  const blocks = tensors.map((x) => (x.isContiguous ? Math.ceil(x.size / BLOCK) : x.rows));
  const count = blocks.reduce((sum, more) => sum + more, 0);
  const sums = backend.allocate("f32", 2 * count);
  let at = sums.pointer;
  for (const [i, x] of tensors.entries()) {
    const columns = x.isContiguous ? BLOCK : x.columns;
    const stride = x.isContiguous ? BLOCK : x.rowStride;
    backend.dispatch("sumSquares", [pointer(x), stride, columns, x.size, at], x.size <= BLOCK);
    at += 8 * blocks[i];
  }
  const sum = new Float64Array(backend.view(sums).buffer, sums.pointer, count).reduce((a, b) => a + b, 0);
  backend.release(sums);
  return sum;
}
