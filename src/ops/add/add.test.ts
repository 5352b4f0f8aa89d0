// add against the reference and central differences; in float16, and cut where a binding is too small.
import { expect, it } from "vitest";
import { testOp } from "../../../test/support/test-op.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { reference } from "../../../test/support/backends.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { add } from "./index.ts";

const wide = {
  name: "views of whole vectors",
  inputs: { a: { shape: [2, 4, 8], extraColumns: 8 }, b: { shape: [2, 4, 8] } },
  options: {},
};
const manyRows = { name: "many rows", inputs: { a: { shape: [300, 33] }, b: { shape: [300, 33] } }, options: {} };

testOp(add, [
  { name: "[3, 5]", inputs: { a: { shape: [3, 5] }, b: { shape: [3, 5] } }, options: {} },
  {
    name: "views of columns",
    inputs: { a: { shape: [2, 4, 7], extraColumns: 5 }, b: { shape: [2, 4, 7], extraColumns: 2 } },
    options: {},
  },
  wide,
  manyRows,
]);
testOpOnGpu(add, [wide, manyRows], { halves: ["a", "b"] });

it("names both shapes when they differ", () => {
  const a = tensorFrom(reference, [1, 2], [2]);
  const b = tensorFrom(reference, [1, 2], [1, 2]);
  expect(() => add({ a, b }, {})).toThrow("add: a and b must have the same shape, got [2] and [1, 2].");
});
