// lstm against the reference and central differences; with float16 gates, cut into pieces, and with large states and long sequences.
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
import { lstm } from "./index.ts";
import * as webgpu from "./webgpu.ts";

testOp(lstm, recurrentCases("lstm"));
testOpOnGpu(lstm, [recurrentCase("lstm", { batch: 5, length: 6, dHidden: 8, starts: 0.2 })], { halves: ["gates"] });

/** The op with a dispatch a token on a GPU. */
const bySteps: typeof lstm = defineOp({
  ...lstm.definition,
  kernels: { ...lstm.definition.kernels, webgpu: (call, backend) => webgpu.forward(call, backend, true) },
  gradient: {
    ...lstm.definition.gradient!,
    kernels: {
      ...lstm.definition.gradient!.kernels,
      webgpu: (call, backend) => webgpu.backward(call, backend, true),
    },
  },
});

async function expectAsReference(op: typeof lstm, opCase: OpCase<object>, backend: Backend): Promise<void> {
  const values = makeValues(opCase);
  const expected = await runOp(lstm, opCase, values, reference);
  const actual = await runOp(op, opCase, values, backend);
  for (const name in expected.outputs) expectClose(name, actual.outputs[name], expected.outputs[name], 1e-5);
  for (const name in expected.grads) expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], 1e-4);
}

describe("large states and long sequences", () => {
  for (const opCase of largeCases("lstm")) {
    it.each(["simd", "relaxed"] as const)(`${opCase.name}: %s`, async (build) => {
      await expectAsReference(lstm, opCase, await wasmBackend(build, 3));
    });
    it.skipIf(!hasGpu)(`${opCase.name}: webgpu`, async () => {
      await expectAsReference(lstm, opCase, await gpuBackend());
    });
  }
});

it.skipIf(!hasGpu)("is the same by a dispatch a token as by one for many", async () => {
  const backend = await gpuBackend();
  for (const opCase of recurrentCases("lstm")) await expectAsReference(bySteps, opCase, backend);
});

it("says what is wrong", () => {
  const weight = zeros(reference, [4 * 4, 4]);
  const call = (gates: number[], more: object = {}) => lstm({ gates: zeros(reference, gates), weight, ...more }, {});
  expect(() => call([2, 3, 15])).toThrow(
    "lstm: gates must be [batch, length >= 1, 4 dHidden] with dHidden = 4, got [2, 3, 15].",
  );
  expect(() => call([2, 3, 16], { weight: zeros(reference, [16, 5]) })).toThrow(
    "lstm: weight must be [4 dHidden, dHidden], got [16, 5].",
  );
  expect(() => call([2, 3, 16], { initialH: zeros(reference, [3, 4]) })).toThrow(
    "lstm: initialH must be [2, 4], got [3, 4].",
  );
  expect(() => call([2, 3, 16], { documentStarts: zeros(reference, [2, 3]) })).toThrow(
    "lstm: documentStarts must be i32, got f32.",
  );
  expect(() => call([2, 3, 16], { weight: zeros(reference, [16, 4], "f16") })).toThrow(
    "lstm: weight must be f32, got f16. Only gates, and with them y, may be f16.",
  );
});
