// Memory of a model's weights on a device, from its configuration alone.
import { sizeOf } from "../../../core/shape.ts";
import type { WeightDType } from "../../../models/checkpoint/load.ts";
import type { AnyModel } from "../../../models/auto.ts";
import { int8Layout } from "../../../ops/linear/pack.ts";

/** Rows that float32 weights are packed by. Mirrors ops/linear/pack.ts. */
const PANEL = 8;

/** Bytes of all weights, laid out as {@link createPackedWeight} lays them out on the wasm device; f16 on the webgpu device. */
export function weightBytes(model: AnyModel, dtype: WeightDType): number {
  let bytes = 0;
  for (const { shape, isPackable } of model.parameters()) {
    const [rows, columns] = shape;
    if (!isPackable) bytes += 4 * sizeOf(shape);
    else if (dtype === "f16") bytes += 2 * sizeOf(shape);
    else if (dtype === "int8") bytes += int8Layout(rows, columns).bytes;
    else bytes += 4 * Math.ceil(rows / PANEL) * PANEL * columns;
  }
  return bytes;
}
