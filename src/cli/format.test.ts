// Numbers for people, mistyped names, and rules of numbers.
import { expect, it } from "vitest";
import { UsageError } from "../core/errors.ts";
import { closestName } from "./closest.ts";
import { formatBytes, formatCount, formatSeconds, formatTable, significant } from "./format.ts";
import { parseNumber } from "./options.ts";
import { printable } from "./output.ts";

it("formats bytes, counts and durations", () => {
  expect([0, 1023, 1024, 5_505_024, 3 * 2 ** 40].map(formatBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.00 KiB",
    "5.25 MiB",
    "3.00 TiB",
  ]);
  expect(formatCount(129_135_360)).toBe("129,135,360");
  expect([0.0004, 0.85, 12.34, 192, 3599.9, 7500, Infinity].map(formatSeconds)).toEqual([
    "0 ms",
    "850 ms",
    "12.3 s",
    "3 min 12 s",
    "1 h 00 min",
    "2 h 05 min",
    "?",
  ]);
  expect([0, 0.012345, 4.5678, 45.678, 1234.5].map(significant)).toEqual(["0", "0.0123", "4.57", "45.7", "1235"]);
});

it("sets tables in columns", () => {
  expect(
    formatTable(
      [
        ["a", "1"],
        ["bcd", "200"],
      ],
      [1],
    ),
  ).toBe("a      1\nbcd  200");
});

it("finds the name that was meant, and none where none is near", () => {
  const names = ["steps", "batch", "dModel"];
  expect(closestName("stepz", names)).toBe("steps");
  expect(closestName("dmodel", names)).toBe("dModel");
  expect(closestName("colour", names)).toBeUndefined();
});

it("takes numbers by their rule alone", () => {
  expect(parseNumber("-3", "--seed", { isWhole: true })).toBe(-3);
  expect(parseNumber("1e-3", "--lr", { least: 0, isAbove: true })).toBe(0.001);
  for (const text of ["", " ", "x", "1.5", "-1", "1e400", "0x", "NaN", "Infinity", "1,000"])
    expect(() => parseNumber(text, "--steps", { least: 0, isWhole: true })).toThrow(UsageError);
  expect(() => parseNumber("0", "--lr", { least: 0, isAbove: true })).toThrow(
    '--lr must be a number above 0, got "0".',
  );
});

it("lets no control characters of a model through to a terminal", () => {
  expect(printable("a\tb\nc\u001B[2J\u0007\u009Bé\u007F")).toBe("a\tb\nc\uFFFD[2J\uFFFD\uFFFDé\uFFFD");
});
