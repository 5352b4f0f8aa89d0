// float16 and bfloat16: every one of the 65536 values, and rounding against exact arithmetic.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts";

const ALL = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

/** The value of a small float by its definition. */
function valueOf(bits: number, exponentBits: number, mantissaBits: number): number {
  const sign = bits >>> 15 ? -1 : 1;
  const exponent = (bits >>> mantissaBits) & ((1 << exponentBits) - 1);
  const mantissa = bits & ((1 << mantissaBits) - 1);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === (1 << exponentBits) - 1) return mantissa === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa * 2 ** -mantissaBits) * 2 ** (exponent - bias);
}

const FORMATS = [
  { name: "float16", exponentBits: 5, mantissaBits: 10, widen: float16ToFloat32, narrow: float32ToFloat16 },
  { name: "bfloat16", exponentBits: 8, mantissaBits: 7, widen: bfloat16ToFloat32, narrow: float32ToBfloat16 },
];

describe.each(FORMATS)("$name", ({ exponentBits, mantissaBits, widen, narrow }) => {
  const values = new Float32Array(65536);
  widen(ALL, values);

  function narrowOne(value: number): number {
    const bits = new Uint16Array(1);
    narrow(Float32Array.of(value), bits);
    return bits[0];
  }

  it("widens all 65536 values as the format defines them", () => {
    const wrong = [...ALL].filter((bits) => !Object.is(values[bits], valueOf(bits, exponentBits, mantissaBits)));
    expect(wrong).toEqual([]);
  });

  it("narrows what it widened to the same bits; NaNs become quiet", () => {
    const back = new Uint16Array(65536);
    narrow(values, back);
    const quiet = 1 << (mantissaBits - 1);
    const wrong = [...ALL].filter((bits) => back[bits] !== (Number.isNaN(values[bits]) ? bits | quiet : bits));
    expect(wrong).toEqual([]);
  });

  it("rounds the midpoint of every two neighbours to the even one, and what is beside it to the nearer one", () => {
    const largest = ALL.findIndex((bits) => values[bits] === Infinity) - 1;
    const wrong: object[] = [];
    for (let bits = 0; bits < largest; bits++) {
      const middle = (values[bits] + values[bits + 1]) / 2;
      const [word] = new Uint32Array(Float32Array.of(middle).buffer);
      const [below, above] = new Float32Array(Uint32Array.of(word - 1, word + 1).buffer);
      const expected = [bits, bits + (bits & 1), bits + 1, 0x8000 | (bits + (bits & 1))];
      const got = [narrowOne(below), narrowOne(middle), narrowOne(above), narrowOne(-middle)];
      if (got.join() !== expected.join()) wrong.push({ bits, got, expected });
    }
    expect(wrong).toEqual([]);
  });

  it("is as near as can be for any float32, infinity standing for the next power of two", () => {
    const overflow = 2 ** (1 << (exponentBits - 1));
    const distance = (bits: number, value: number): number =>
      Math.abs(Math.max(-overflow, Math.min(overflow, values[bits & 0xffff])) - value);
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const bits = narrowOne(value);
        const neighbours = [bits - 1, bits + 1]
          .map((other) => distance(other, value))
          .filter((far) => !Number.isNaN(far));
        expect(distance(bits, value)).toBeLessThanOrEqual(Math.min(...neighbours));
      }),
      { numRuns: 2000 },
    );
  });
});
