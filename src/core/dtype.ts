// Element types of tensors on a device, and the typed arrays that hold them on the host.

/** f32: a real number (the reference backend holds it in float64). i32: token ids and flags. i8: packed weights. */
export type DType = "f32" | "i32" | "i8";

/** What the host gives to a device, or gets from it. */
export type HostArray = Float32Array | Float64Array | Int32Array | Uint8Array | Int8Array;

/** Bytes of one element on the host. */
export const BYTES_PER_ELEMENT: Readonly<Record<DType, number>> = { f32: 4, i32: 4, i8: 1 };
