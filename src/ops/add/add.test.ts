// add against the reference and central differences.
import { expect, it } from "vitest";
import { testOp } from "../../../test/support/test-op.ts";
import { reference } from "../../../test/support/backends.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { add } from "./index.ts";

testOp(add, [
  { name: "[3, 5]", inputs: { a: { shape: [3, 5] }, b: { shape: [3, 5] } }, options: {} },
  {
    name: "views of columns",
    inputs: { a: { shape: [2, 4, 7], extraColumns: 5 }, b: { shape: [2, 4, 7], extraColumns: 2 } },
    options: {},
  },
  { name: "many rows", inputs: { a: { shape: [300, 33] }, b: { shape: [300, 33] } }, options: {} },
]);

it("names both shapes when they differ", () => {
  const a = tensorFrom(reference, [1, 2], [2]);
  const b = tensorFrom(reference, [1, 2], [1, 2]);
  expect(() => add({ a, b }, {})).toThrow("add: a and b must have the same shape, got [2] and [1, 2].");
});
