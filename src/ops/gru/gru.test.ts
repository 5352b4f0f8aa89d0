// gru against the reference and central differences; with float16 gates, cut into pieces, and with large states and long sequences.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { largeCases, recurrentCase, recurrentCases } from "../../../test/support/recurrent-cases.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { OpCase } from "../../../test/support/test-op.ts";
import { makeValues, runOp, testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { defineOp } from "../../tensor/define-op.ts";
import { zeros } from "../../tensor/tensor.ts";
import { gru } from "./index.ts";
import * as webgpu from "./webgpu.ts";

testOp(gru, recurrentCases("gru"));
testOpOnGpu(gru, [recurrentCase("gru", { batch: 5, length: 6, dHidden: 8, starts: 0.2 })], { halves: ["gates"] });

/** The op with a dispatch a token on a GPU. */
const bySteps: typeof gru = defineOp({
  ...gru.definition,
  kernels: { ...gru.definition.kernels, webgpu: (call, backend) => webgpu.forward(call, backend, true) },
  gradient: {
    ...gru.definition.gradient!,
    kernels: {
      ...gru.definition.gradient!.kernels,
      webgpu: (call, backend) => webgpu.backward(call, backend, true),
    },
  },
});

async function expectAsReference(op: typeof gru, opCase: OpCase<object>, backend: Backend): Promise<void> {
  const values = makeValues(opCase);
  const expected = await runOp(gru, opCase, values, reference);
  const actual = await runOp(op, opCase, values, backend);
  for (const name in expected.outputs) expectClose(name, actual.outputs[name], expected.outputs[name], 1e-5);
  for (const name in expected.grads) expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], 1e-4);
}

describe("large states and long sequences", () => {
  for (const opCase of largeCases("gru")) {
    it.each(["simd", "relaxed"] as const)(`${opCase.name}: %s`, async (build) => {
      await expectAsReference(gru, opCase, await wasmBackend(build, 3));
    });
    it.skipIf(!hasGpu)(`${opCase.name}: webgpu`, async () => {
      await expectAsReference(gru, opCase, await gpuBackend());
    });
  }
});

it.skipIf(!hasGpu)("is the same by a dispatch a token as by one for many", async () => {
  const backend = await gpuBackend();
  for (const opCase of recurrentCases("gru")) await expectAsReference(bySteps, opCase, backend);
});

it("says what is wrong", () => {
  const weight = zeros(reference, [3 * 4, 4]);
  const bias = zeros(reference, [12]);
  const call = (gates: number[], more: object = {}) =>
    gru({ gates: zeros(reference, gates), weight, bias, ...more }, {});
  expect(() => call([2, 3, 11])).toThrow(
    "gru: gates must be [batch, length >= 1, 3 dHidden] with dHidden = 4, got [2, 3, 11].",
  );
  expect(() => call([2, 3, 12], { weight: zeros(reference, [12, 5]) })).toThrow(
    "gru: weight must be [3 dHidden, dHidden], got [12, 5].",
  );
  expect(() => call([2, 3, 12], { initialH: zeros(reference, [3, 4]) })).toThrow(
    "gru: initialH must be [2, 4], got [3, 4].",
  );
  expect(() => call([2, 3, 12], { documentStarts: zeros(reference, [2, 3]) })).toThrow(
    "gru: documentStarts must be i32, got f32.",
  );
  expect(() => call([2, 3, 12], { weight: zeros(reference, [12, 4], "f16") })).toThrow(
    "gru: weight must be f32, got f16. Only gates, and with them y, may be f16.",
  );
});
