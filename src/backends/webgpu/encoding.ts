// Elements of tensors as bytes of a GPU, and back.
import type { DType, HostArray } from "../../core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";

/** Host elements as the bytes that a device has for this dtype, padded to whole words. */
export function encodeElements(dtype: DType, data: HostArray): Uint8Array {
  if (dtype === "f16") {
    const halves = new Uint16Array(data.length + (data.length % 2));
    float32ToFloat16(data instanceof Float32Array ? data : Float32Array.from(data), halves);
    return new Uint8Array(halves.buffer);
  }
  const elements = convert(dtype, data);
  const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
  if (bytes.length % 4 === 0) return bytes;
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}

function convert(dtype: "f32" | "i32" | "i8", data: HostArray): HostArray {
  if (dtype === "f32") return data instanceof Float32Array ? data : Float32Array.from(data);
  if (dtype === "i32") return data instanceof Int32Array ? data : Int32Array.from(data);
  return data instanceof Int8Array ? data : Int8Array.from(data);
}

/** The elements that bytes of a device hold, in a new array. */
export function decodeElements(dtype: DType, bytes: ArrayBuffer, byteOffset: number, count: number): HostArray {
  if (dtype === "f16") {
    const values = new Float32Array(count);
    float16ToFloat32(new Uint16Array(bytes, byteOffset, count), values);
    return values;
  }
  const View = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Int8Array;
  return new View(bytes, byteOffset, count).slice();
}
