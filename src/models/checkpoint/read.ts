// Reads elements of a checkpoint's tensors; those of quantised ones times the scales of their rows.
import { CheckpointError } from "../../core/errors.ts";
import type { ElementRange, TensorInfo, TensorReader } from "../../io/index.ts";
import { SCALE } from "./layout.ts";

/** Elements of a tensor as float32: see {@link TensorReader.readFloat32}. Throws CheckpointError where scales are missing. */
export async function readTensorFrom(
  reader: TensorReader,
  info: TensorInfo,
  target: Float32Array,
  range: ElementRange = {},
): Promise<void> {
  await reader.readFloat32(info.name, target, range);
  if (info.dtype !== "I8") return;
  const [rows, columns] = info.shape;
  const name = `${info.name}${SCALE}`;
  if (reader.tensors.get(name)?.shape[0] !== rows)
    throw new CheckpointError(
      `${info.file}: ${info.name} is I8 and must have ${name} [${rows}] beside it, one scale a row. Write it with mamba convert --dtype int8.`,
    );
  const { start = 0, count = target.length } = range;
  const first = Math.floor(start / columns);
  const scales = new Float32Array(Math.ceil((start + count) / columns) - first);
  await reader.readFloat32(name, scales, { start: first, count: scales.length });
  for (let i = 0; i < count; i++) target[i] *= scales[Math.floor((start + i) / columns) - first];
}
