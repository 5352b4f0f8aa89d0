// The tensors of a file as plain float32 arrays by name.
import type { TensorReader } from "./tensor-info.ts";
import { elementsOf } from "./tensor-info.ts";

/** What a state is made from: shapes at once, numbers when they are asked for. */
export function savedArrays(reader: TensorReader): {
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  read(name: string): Promise<Float32Array>;
} {
  return {
    shapes: new Map([...reader.tensors].map(([name, { shape }]) => [name, shape])),
    async read(name) {
      const data = new Float32Array(elementsOf(reader.tensors.get(name)!.shape));
      await reader.readFloat32(name, data);
      return data;
    },
  };
}
