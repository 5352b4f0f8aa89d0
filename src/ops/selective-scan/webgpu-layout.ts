// On what the kernels of the selective scan are specialised: how the work is laid out, what is fused, how memory lies.

/** How the work of a workgroup is laid out. */
export type ScanLayout = {
  /** Vectors of four states that a thread holds. */
  readonly vectors: number;
  /** Channels of a workgroup. */
  readonly channels: number;
  /** Steps of a tile. */
  readonly steps: number;
  /** Steps that stand one behind the other in the text; 1 makes short kernels, for software that compiles slowly. */
  readonly unroll: number;
};

/** What the kernel is fused with and what it finds in memory. */
export type ScanKind = {
  readonly type: string;
  /** States of a channel, rounded up to whole vectors of four. */
  readonly dState: number;
  /** Whether rows of x, dtRaw, z and y lie at multiples of four elements; those of states. */
  readonly wide: boolean;
  readonly wideState: boolean;
  readonly softplus: boolean;
  readonly hasZ: boolean;
  readonly hasStarts: boolean;
};

/** Threads of a channel: one for each `vectors` of its states. */
export function stateThreads({ dState, vectors }: { dState: number; vectors: number }): number {
  return Math.ceil(Math.ceil(dState / 4) / vectors);
}

/** Bytes of workgroup memory of a forward kernel. */
export function forwardBytes(layout: ScanLayout & { readonly dState: number }): number {
  const { vectors, channels, steps } = layout;
  const threads = stateThreads(layout);
  return 4 * steps * ((channels + 1) * (2 + threads) + 8 * threads * vectors + 1);
}

/** Kinds and a layout with which tests compile the kernels: everything, and hardly anything. */
export const SAMPLE_KIND: ScanKind = {
  type: "f32",
  dState: 16,
  wide: true,
  wideState: true,
  softplus: true,
  hasZ: true,
  hasStarts: false,
};
export const BARE_KIND: ScanKind = {
  ...SAMPLE_KIND,
  type: "f16",
  dState: 8,
  wide: false,
  wideState: false,
  softplus: false,
  hasZ: false,
  hasStarts: true,
};
export const SAMPLE_LAYOUT: ScanLayout = { vectors: 1, channels: 32, steps: 16, unroll: 4 };
