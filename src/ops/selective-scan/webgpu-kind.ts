// What the tensors of a selective scan say about its kernels.
import type { Tensor } from "../../tensor/tensor.ts";
import type { ScanKind } from "./webgpu-layout.ts";

/** Tensors of one piece, by the kernels' names of their buffers. */
export type Buffers = Readonly<Record<string, Tensor>>;

/** What the kernels are specialised on. */
export function kindOf(buffers: Buffers, dState: number, groupChannels: number, softplus: boolean): ScanKind {
  const { x, z, document_starts } = buffers;
  const isWide = (...names: string[]): boolean =>
    names.every((name) => !buffers[name] || (buffers[name].offset % 4 === 0 && buffers[name].rowStride % 4 === 0));
  return {
    type: x.dtype,
    dState: 4 * Math.ceil(dState / 4),
    wide: groupChannels % 4 === 0 && isWide("x", "dt_raw", "z", "y", "grad_y", "grad_x", "grad_dt_raw", "grad_z"),
    wideState: dState % 4 === 0 && isWide("initial_state", "final_state", "saved_states"),
    softplus,
    hasZ: z !== undefined,
    hasStarts: document_starts !== undefined,
  };
}

/** Without what is undefined. */
export function present(tensors: Record<string, Tensor | undefined>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).filter(([, tensor]) => tensor)) as Record<string, Tensor>;
}
