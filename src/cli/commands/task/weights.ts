// Weights of a model of any architecture, in a folder: model.safetensors, and architecture.json that says how it was made.
import { join } from "node:path";
import { CheckpointError } from "../../../core/errors.ts";
import { formatShape, isSameShape, sizeOf } from "../../../core/shape.ts";
import { openSafetensors, openSource, writeFileAtomic, writeSafetensors } from "../../../io/index.ts";
import type { Parameter } from "../../../tensor/parameter.ts";

type Parameters = ReadonlyMap<string, Parameter>;

/** @param about JSON for architecture.json */
export async function saveWeights(parameters: Parameters, about: object, folder: string): Promise<void> {
  const tensors = [...parameters].map(([name, { shape, tensor }]) => ({
    name,
    shape,
    dtype: "F32" as const,
    data: () => tensor.read(),
  }));
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  await writeFileAtomic(join(folder, "architecture.json"), `${JSON.stringify(about, null, 2)}\n`);
}

/** Throws CheckpointError unless the folder holds exactly these parameters. */
export async function loadWeights(parameters: Parameters, folder: string): Promise<void> {
  const source = await openSource(folder);
  const file = await source.open("model.safetensors");
  try {
    const reader = await openSafetensors(file);
    if (reader.tensors.size !== parameters.size)
      throw new CheckpointError(
        `${folder}: must hold ${parameters.size} tensors for this model, got ${reader.tensors.size}. Is it of another architecture?`,
      );
    for (const [name, parameter] of parameters) {
      const info = reader.tensors.get(name);
      if (!info || !isSameShape(info.shape, parameter.shape))
        throw new CheckpointError(
          `${folder}: ${name} must be ${formatShape(parameter.shape)} for this model, got ${info ? formatShape(info.shape) : "nothing"}. Is it of other sizes?`,
        );
      const data = new Float32Array(sizeOf(parameter.shape));
      await reader.readFloat32(name, data);
      parameter.tensor.write(data);
      parameter.markChanged();
    }
  } finally {
    await file.close();
  }
}
