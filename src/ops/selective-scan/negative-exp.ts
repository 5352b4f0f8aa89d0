// negativeExp: A = -exp(A_log), how Mamba keeps A negative; and its gradient, grad.A_log = grad.A · A.
import { defineOp, hostData, pointer } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as webgpu from "./webgpu-negative-exp.ts";

type Inputs = { readonly x: Tensor };
type Outputs = { readonly y: Tensor };

const SERIAL_ELEMENTS = 1 << 14;

/**
 * y = -exp(x), element by element.
 * @param x `[..., columns]`, may be a view of columns
 * @returns y, the same shape
 */
export const negativeExp: Op<Inputs, Outputs, object> = defineOp<Inputs, Outputs, object>({
  name: "negativeExp",
  shape: ({ x }) => ({ y: { shape: x.shape } }),
  kernels: {
    reference({ inputs: { x }, outputs: { y } }) {
      forEach(x, (row, column) => {
        hostData(y)[y.offset + row * y.rowStride + column] = -Math.exp(
          hostData(x)[x.offset + row * x.rowStride + column],
        );
      });
    },
    wasm({ inputs: { x }, outputs: { y } }, backend) {
      backend.dispatch(
        "negativeExp",
        [pointer(x), x.rowStride, pointer(y), y.rowStride, y.rows, y.columns],
        y.size < SERIAL_ELEMENTS,
      );
    },
    webgpu: ({ inputs: { x }, outputs: { y } }, backend) => webgpu.forward(backend, x, y),
  },
  gradient: {
    of: ["x"],
    kernels: {
      reference({ outputs: { y }, gradOutputs, gradInputs }) {
        const [gradY, gradX] = [gradOutputs.y!, gradInputs.x!];
        forEach(y, (row, column) => {
          hostData(gradX)[gradX.offset + row * gradX.rowStride + column] +=
            hostData(gradY)[gradY.offset + row * gradY.rowStride + column] *
            hostData(y)[y.offset + row * y.rowStride + column];
        });
      },
      wasm({ outputs: { y }, gradOutputs, gradInputs }, backend) {
        const [gradY, gradX] = [gradOutputs.y!, gradInputs.x!];
        const args = [
          pointer(gradY),
          gradY.rowStride,
          pointer(y),
          y.rowStride,
          pointer(gradX),
          gradX.rowStride,
          y.rows,
          y.columns,
        ];
        backend.dispatch("negativeExpBackward", args, y.size < SERIAL_ELEMENTS);
      },
      webgpu: ({ outputs: { y }, gradOutputs, gradInputs }, backend) =>
        webgpu.backward(backend, y, gradOutputs.y!, gradInputs.x!),
    },
  },
});

function forEach(tensor: Tensor, visit: (row: number, column: number) => void): void {
  for (let row = 0; row < tensor.rows; row++)
    for (let column = 0; column < tensor.columns; column++) visit(row, column);
}
