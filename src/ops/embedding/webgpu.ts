// embedding on the WebGPU backend: rows by their ids; the gradient is in webgpu-gradient.ts.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gatherPackedRows } from "../linear/pack.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  dispatchElements,
  elementsHeader,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { EmbeddingInputs, EmbeddingOptions, EmbeddingOutputs } from "./index.ts";
import { addRowsById } from "./webgpu-gradient.ts";

export function forward(
  { inputs: { ids, weight }, outputs: { y } }: ForwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>,
  backend: WebGpuBackend,
): void {
  // A head that is tied to the embedding packs its weight for products.
  if (weight.format === "rows") gatherRows(backend, ids, weight, y);
  else gatherPackedRows(ids, weight, y);
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>,
  backend: WebGpuBackend,
): void {
  const { y } = gradOutputs;
  if (gradInputs.weight && y) addRowsById(backend, inputs.ids, y, gradInputs.weight);
}

function gatherRows(backend: WebGpuBackend, ids: Tensor, weight: Tensor, y: Tensor): void {
  splitRows(backend, { y }, (ofY, firstRow) =>
    splitRows(backend, { weight }, (ofWeight, firstId) => {
      const width = vectorWidthOf(ofWeight.weight, ofY.y);
      const isWhole = ofWeight.weight.rows === weight.rows;
      const kernel = gather({ weight: weight.dtype, y: y.dtype, isWhole, width });
      const params = { firstRow, idColumns: ids.columns, firstId, count: ofWeight.weight.rows, all: weight.rows };
      dispatchElements(
        backend,
        kernel,
        { ids, ...ofWeight, ...ofY },
        { like: ofY.y, width, params: { ...params, nan: NaN } },
      );
    }),
  );
}

/** Rows of a piece of the weight, ids from `firstId` on; the rows of other pieces stay as they are. */
const gather = defineKernel<{ weight: string; y: string; isWhole: boolean; width: VectorWidth }>(
  "embedding",
  [
    { weight: "f32", y: "f32", isWhole: true, width: 4 },
    { weight: "f16", y: "f32", isWhole: false, width: 1 },
  ],
  ({ weight, y, isWhole, width }) => ({
    buffers: {
      ids: "read i32",
      weight: `read ${vectorType(weight, width)}`,
      y: `${isWhole ? "write" : "add"} ${vectorType(y, width)}`,
    },
    params: ["rows", "columns", "firstRow", "idColumns", "firstId", "count", "all", "nan: f32"],
    // A negative id is a large one when seen as u32.
    body: elementsHeader(
      width,
      /* wgsl */ `
  let position = params.firstRow + row;
  let id = u32(ids[params.ids_at + (position / params.idColumns) * params.ids_stride + position % params.idColumns]);
  let own = id - params.firstId;
  if (own < params.count) {
    ${storeTo("y", `write ${y}`, width, { value: `Floats(${vectorAt("weight", "own")})` })}
  } else if (id >= params.all) {
    ${storeTo("y", `write ${y}`, width, { value: "Floats(params.nan)" })}
  }`,
    ),
  }),
);
