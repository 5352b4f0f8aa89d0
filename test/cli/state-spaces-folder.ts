// Writes a folder as state-spaces publishes its models: config.json in their dialect, and pytorch_model.bin as torch.save makes it.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import type { TensorReader } from "../../src/io/index.ts";
import type { MambaConfig } from "../../src/models/mamba/config.ts";

/** The weights of a tied Hugging Face checkpoint, renamed, with the head that state-spaces stores beside the embedding. */
export async function writeStateSpacesFolder(folder: string, config: MambaConfig, reader: TensorReader): Promise<void> {
  await mkdir(folder, { recursive: true });
  const writer = new ZipWriter(new Uint8ArrayWriter(), { level: 0, useWebWorkers: false });
  const pickle: number[] = [...latin1("\x80\x02}(")];
  const add = async (name: string, key: string, source: string): Promise<void> => {
    const { shape } = reader.tensors.get(source)!;
    const data = new Float32Array(shape.reduce((product, axis) => product * axis, 1));
    await reader.readFloat32(source, data);
    await writer.add(`model/data/${key}`, new Uint8ArrayReader(new Uint8Array(data.buffer)));
    pickle.push(...text(name), ...rebuildTensor(key, data.length, shape));
  };
  let key = 0;
  for (const name of reader.tensors.keys())
    await add(name.replace("backbone.embeddings.", "backbone.embedding."), String(key++), name);
  await add("lm_head.weight", String(key), "backbone.embeddings.weight");
  pickle.push(...latin1("u."));
  await writer.add("model/data.pkl", new Uint8ArrayReader(Uint8Array.from(pickle)));
  await writer.add("model/version", new Uint8ArrayReader(Uint8Array.from(latin1("3\n"))));
  await writeFile(join(folder, "pytorch_model.bin"), await writer.close());
  const fields = {
    d_model: config.dModel,
    n_layer: config.nLayer,
    vocab_size: config.vocabSize - 3,
    ssm_cfg: { d_state: config.dState },
    rms_norm: true,
    residual_in_fp32: true,
    fused_add_norm: true,
    pad_vocab_size_multiple: 8,
  };
  await writeFile(join(folder, "config.json"), JSON.stringify(fields));
}

/** torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict()) in pickle's opcodes. */
function rebuildTensor(key: string, count: number, shape: readonly number[]): number[] {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, axis) => product * axis, 1));
  const tuple = (values: readonly number[]): number[] => [...latin1("("), ...values.flatMap(int), ...latin1("t")];
  return [
    ...latin1("ctorch._utils\n_rebuild_tensor_v2\n(("),
    ...text("storage"),
    ...latin1("ctorch\nFloatStorage\n"),
    ...text(key),
    ...text("cpu"),
    ...int(count),
    ...latin1("tQ"),
    ...int(0),
    ...tuple(shape),
    ...tuple(strides),
    ...latin1("\x89ccollections\nOrderedDict\n)RtR"),
  ];
}

function latin1(value: string): number[] {
  return Array.from(value, (letter) => letter.charCodeAt(0));
}

/** BINUNICODE. */
function text(value: string): number[] {
  return [0x58, ...le32(value.length), ...latin1(value)];
}

/** BININT. */
function int(value: number): number[] {
  return [0x4a, ...le32(value)];
}

function le32(value: number): number[] {
  return [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];
}
