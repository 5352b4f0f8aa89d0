// The files layer: where checkpoints come from, their tensors, and safe writing. Nothing here loads Node's modules until they are needed.
export { makeFolder, writeFileAtomic } from "./atomic.ts";
export type { FileContent } from "./atomic.ts";
export { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "../core/half.ts";
export { encodeSafetensors, writeSafetensors } from "./safetensors-write.ts";
export type { TensorToWrite, WriteDType } from "./safetensors-write.ts";
export { httpSource, memorySource, openSource } from "./source.ts";
export type { DownloadProgress, FileSource, OpenSourceOptions, RandomAccessFile } from "./source.ts";
export { savedArrays } from "./saved-arrays.ts";
export { openSafetensors, openTensors, openTorchPickle } from "./tensors.ts";
export type { ElementRange, FileDType, TensorInfo, TensorReader } from "./tensors.ts";
