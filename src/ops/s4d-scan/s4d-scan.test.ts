// s4dScan against the reference and central differences.
import { expect, it } from "vitest";
import { reference } from "../../../test/support/backends.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { InputSpec } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { defineOp } from "../../tensor/define-op.ts";
import { zeros } from "../../tensor/tensor.ts";
import type { S4dScanInputs, S4dScanOutputs } from "./index.ts";
import { s4dScan } from "./index.ts";
import * as reference64 from "./reference.ts";
import * as webgpu from "./webgpu.ts";

interface Sizes {
  batch: number;
  length: number;
  channels: number;
  pairs: number;
  extraColumns?: number;
}

const plain = ({ batch, length, channels, pairs, extraColumns }: Sizes): Record<string, InputSpec> => {
  const wide = extraColumns === undefined ? {} : { extraColumns };
  return {
    x: { shape: [batch, length, channels], ...wide },
    logDt: { shape: [channels], element: (random) => Math.log(0.03 + 0.07 * random.uniform()) },
    A_log_real: { shape: [channels, pairs], ...wide, element: (random) => Math.log(0.5) + 0.3 * random.normal() },
    A_imag: { shape: [channels, pairs], ...wide, element: (random) => random.normal() },
    C: { shape: [channels, 2 * pairs], ...wide },
  };
};
const whole = (sizes: Sizes): Record<string, InputSpec> => {
  const { batch, length, channels, pairs } = sizes;
  return {
    ...plain(sizes),
    D: { shape: [channels] },
    initialState: { shape: [batch, channels, 2 * pairs] },
    documentStarts: { shape: [batch, length], dtype: "i32", element: (random) => (random.uniform() < 0.1 ? 1 : 0) },
  };
};

testOp(s4dScan, [
  { name: "one step", inputs: plain({ batch: 1, length: 1, channels: 3, pairs: 2 }), options: {} },
  { name: "one step of many sequences", inputs: whole({ batch: 5, length: 1, channels: 6, pairs: 3 }), options: {} },
  { name: "two chunks", inputs: plain({ batch: 2, length: 67, channels: 5, pairs: 3 }), options: {} },
  { name: "everything", inputs: whole({ batch: 2, length: 130, channels: 4, pairs: 4, extraColumns: 3 }), options: {} },
  {
    name: "only the final state",
    inputs: whole({ batch: 1, length: 9, channels: 3, pairs: 1 }),
    options: {},
    unused: ["y"],
  },
  {
    name: "without a gradient of the final state",
    inputs: whole({ batch: 2, length: 65, channels: 9, pairs: 2 }),
    options: {},
    unused: ["finalState"],
  },
]);

testOpOnGpu(
  s4dScan,
  [
    { name: "plain", inputs: plain({ batch: 2, length: 40, channels: 33, pairs: 5 }), options: {} },
    {
      name: "everything",
      inputs: whole({ batch: 3, length: 150, channels: 6, pairs: 3, extraColumns: 2 }),
      options: {},
    },
  ],
  { halves: ["x"], bindingBytes: 8192 },
);

/** The op as it runs where time is cut into chunks that run side by side. */
const inChunks = defineOp<S4dScanInputs, S4dScanOutputs, object>({
  ...s4dScan.definition,
  name: "s4dScan in chunks",
  kernels: { reference: reference64.forward, webgpu: (call, backend) => webgpu.forward(call, backend, 5) },
  gradient: {
    of: s4dScan.definition.gradient!.of,
    kernels: { reference: reference64.backward, webgpu: (call, backend) => webgpu.backward(call, backend, 5) },
  },
});
testOpOnGpu(
  inChunks,
  [
    { name: "plain", inputs: plain({ batch: 1, length: 200, channels: 5, pairs: 9 }), options: {} },
    { name: "everything", inputs: whole({ batch: 2, length: 300, channels: 4, pairs: 2 }), options: {} },
    {
      name: "only the final state",
      inputs: whole({ batch: 1, length: 150, channels: 3, pairs: 1 }),
      options: {},
      unused: ["y"],
    },
  ],
  { bindingBytes: 1 << 20 },
);

it("names the shapes that do not fit", () => {
  const inputs = {
    x: zeros(reference, [1, 4, 2]),
    logDt: zeros(reference, [2]),
    A_log_real: zeros(reference, [2, 3]),
    A_imag: zeros(reference, [2, 3]),
    C: zeros(reference, [2, 6]),
  };
  expect(() => s4dScan({ ...inputs, x: zeros(reference, [1, 4, 3]) }, {})).toThrow(
    "s4dScan: x must be [batch, length >= 1, 2], got [1, 4, 3].",
  );
  expect(() => s4dScan({ ...inputs, initialState: zeros(reference, [1, 2, 3]) }, {})).toThrow(
    "s4dScan: initialState must be [1, 2, 6], got [1, 2, 3].",
  );
});
