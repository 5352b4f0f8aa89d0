import { expect, it } from "vitest";
import { DataError } from "../core/errors.ts";
import { fitPowerLaw, predict, ratiosAtEqualLoss } from "./fit.ts";

const SIZES = [1e5, 3e5, 1e6, 3e6, 1e7, 3e7];

function curve(floor: number, scale: number, exponent: number, noise = 0): { x: number; y: number }[] {
  return SIZES.map((x, i) => ({ x, y: predict({ floor, scale, exponent }, x) * (1 + (i % 2 === 0 ? noise : -noise)) }));
}

it("finds the law that made the points", () => {
  const plain = fitPowerLaw(curve(0, 12, 0.11));
  expect(plain.floor).toBe(0);
  expect(plain.scale).toBeCloseTo(12, 8);
  expect(plain.exponent).toBeCloseTo(0.11, 10);
  expect(plain.error).toBeLessThan(1e-12);

  const floored = fitPowerLaw(curve(0.8, 40, 0.3), "free");
  expect(floored.floor).toBeCloseTo(0.8, 4);
  expect(floored.scale).toBeCloseTo(40, 1);
  expect(floored.exponent).toBeCloseTo(0.3, 4);
});

it("finds no floor where there is none", () => {
  const law = fitPowerLaw(curve(0, 12, 0.11), "free");
  expect(law.floor).toBeLessThan(1e-6);
  expect(law.exponent).toBeCloseTo(0.11, 6);
});

it("is near the law under noise", () => {
  const law = fitPowerLaw(curve(0, 12, 0.11, 0.002));
  expect(law.exponent).toBeCloseTo(0.11, 2);
  expect(law.error).toBeGreaterThan(0.001);
  expect(law.error).toBeLessThan(0.003);
});

it("tells the ratio of sizes at every loss that both reach", () => {
  // A model that needs 2.5 times the size has the other's curve, moved to the right.
  const small = curve(0, 12, 0.11);
  const large = SIZES.map((x) => ({ x, y: predict({ floor: 0, scale: 12, exponent: 0.11 }, x / 2.5) }));
  const ratios = ratiosAtEqualLoss(large, small);
  // All losses but the large one's highest and the small one's lowest.
  expect(ratios).toHaveLength(10);
  for (const { ratio } of ratios) expect(ratio).toBeCloseTo(2.5, 6);
  expect(ratios[0].y).toBe(small[0].y);
  expect(ratios[9].y).toBe(large[5].y);
  expect(ratiosAtEqualLoss([{ x: 1, y: 3 }], [{ x: 1, y: 2 }])).toEqual([]);
});

it("refuses too few sizes and values without a logarithm", () => {
  expect(() => fitPowerLaw([{ x: 1, y: 1 }])).toThrow(DataError);
  expect(() => fitPowerLaw(curve(0, 1, 0.1).slice(0, 3), "free")).toThrow("needs 4 sizes or more, got 3");
  expect(() =>
    fitPowerLaw([
      { x: 1, y: 1 },
      { x: 2, y: Number.NaN },
    ]),
  ).toThrow("got (2, NaN)");
});
