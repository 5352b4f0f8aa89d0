// Element types of tensors on a device, and the typed arrays that hold them on the host.

/**
 * f32: a real number (the reference backend holds it in float64). f16: half precision, WebGPU only (the reference holds
 * it as f32). i32: token ids and flags. i8: packed weights.
 */
export type DType = "f32" | "f16" | "i32" | "i8";

/** What the host gives to a device, or gets from it. f16 comes and goes as Float32Array. */
export type HostArray = Float32Array | Float64Array | Int32Array | Uint8Array | Int8Array;

/** Bytes of one element on a device. */
export const BYTES_PER_ELEMENT: Readonly<Record<DType, number>> = { f32: 4, f16: 2, i32: 4, i8: 1 };

/** Whether elements are real numbers, which gradients flow through. */
export function isReal(dtype: DType): boolean {
  return dtype === "f32" || dtype === "f16";
}
