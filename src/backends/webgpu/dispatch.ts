// What a dispatch binds: the part of a buffer that a kernel sees for a tensor, and the rules of WebGPU about it.
import type { DType } from "../../core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { BackendError } from "../../core/errors.ts";
import type { Groups } from "./commands.ts";
import { mebibytes } from "./failures.ts";
import type { Kernel, KernelBuffer } from "./kernel.ts";
import type { BoundRange } from "./pipelines.ts";
import type { Place, WebGpuStorage } from "./storage.ts";

const OFFSET_ALIGNMENT = 256;

/** Workgroups of `size` threads for `count` items, folded over two axes where one is not enough. */
export function groupsFor(count: number, size: number): Groups {
  const groups = Math.ceil(count / size);
  const most = 65535;
  if (groups <= most) return [groups];
  const y = Math.ceil(groups / most);
  return [Math.ceil(groups / y), y];
}

/** The place that was given for a buffer of a kernel; a storage stands for all of itself. */
export function placeOf(value: Place | WebGpuStorage | undefined, kernel: Kernel, { name, type }: KernelBuffer): Place {
  if (!value) throw new BackendError(`webgpu: ${kernel.name}: nothing was given for its buffer ${name}.`);
  const place = "storage" in value ? value : wholeOf(value);
  const { dtype } = place.storage;
  if (!fits(type, dtype))
    throw new BackendError(`webgpu: ${kernel.name}: its buffer ${name} holds ${type}, and the tensor is ${dtype}.`);
  return place;
}

/** All of a storage, as one row. */
export function wholeOf(storage: WebGpuStorage): Place {
  return { storage, offset: 0, rowStride: storage.count, rows: 1, columns: storage.count };
}

/** Integers may stand for the bits of anything. */
function fits(type: string, dtype: DType): boolean {
  if (/f16|\dh\b/.test(type)) return dtype === "f16";
  return !/f32|\df\b/.test(type) || dtype === "f32";
}

/** The part of a buffer that a kernel must see. */
export function rangeOf(place: Place, mostBytes: number, kernel: string, name: string): BoundRange {
  const { buffer, dtype } = place.storage as WebGpuStorage;
  const size = BYTES_PER_ELEMENT[dtype];
  const first = place.offset * size;
  const offset = Math.floor(first / OFFSET_ALIGNMENT) * OFFSET_ALIGNMENT;
  const end = (place.offset + (place.rows - 1) * place.rowStride + place.columns) * size;
  // Whole vectors of 16 bytes, as kernels read them; buffers are a multiple of 256 bytes long.
  const bytes = Math.max(16, Math.ceil((end - offset) / 16) * 16);
  if (bytes > mostBytes)
    throw new BackendError(
      `webgpu: ${kernel}: ${name} takes ${mebibytes(bytes)}, and a kernel of this device sees ${mebibytes(mostBytes)} at once. Use a smaller batch or length.`,
    );
  return { buffer, offset, size: bytes, at: (first - offset) / size, stride: place.rowStride };
}

/** WebGPU allows no buffer twice in a dispatch when one of the two is written, even where the parts are apart. */
export function checkAliases({ name, buffers }: Kernel, ranges: readonly BoundRange[]): void {
  for (let i = 0; i < ranges.length; i++) {
    if (buffers[i].use === "read") continue;
    for (let j = 0; j < ranges.length; j++)
      if (i !== j && ranges[i].buffer === ranges[j].buffer)
        throw new BackendError(
          `webgpu: ${name}: ${buffers[i].name} and ${buffers[j].name} lie in one buffer, and a kernel may not write one of them. Write from a kernel of its own.`,
        );
  }
}
