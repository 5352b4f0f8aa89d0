// testOpOnGpu: an op on a GPU in the ways that testOp leaves out: in float16, cut into pieces, without subgroups.
import { describe, it } from "vitest";
import type { GpuOptions, WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { Op, Tensors } from "../../src/tensor/define-op.ts";
import { gpuBackend, hasGpu, reference } from "./backends.ts";
import { expectClose } from "./compare.ts";
import type { OpCase, OpTolerances } from "./test-op.ts";
import { makeValues, runOp } from "./test-op.ts";

/** Of the largest magnitude, with float16 storage: as the official tests of Mamba. */
const HALF_TOLERANCES = { forward: 3e-3, gradient: 5e-3 };

export interface GpuVariants {
  /** Inputs that are float16 in one of the runs; none: no such run. */
  halves?: readonly string[];
  /** Whether its kernels use subgroups, so that there is a run without them. */
  usesSubgroups?: boolean;
  /** Bytes of a binding in the run that cuts tensors into pieces. */
  bindingBytes?: number;
  /** In float32. */
  tolerances?: OpTolerances;
}

/** Runs each case with small bindings, and as asked in float16 and without subgroups; and compares with the reference. */
export function testOpOnGpu<I extends Tensors, O extends Tensors, Options>(
  op: Op<I, O, Options>,
  cases: readonly OpCase<Options>[],
  { halves = [], usesSubgroups = false, bindingBytes = 2048, tolerances = {} }: GpuVariants = {},
): void {
  const { forward = 1e-5, gradient = 1e-4 } = tolerances;
  const variants: [name: string, options: GpuOptions, halves: readonly string[], tolerances: OpTolerances][] = [
    ["in pieces", { maxBindingBytes: bindingBytes }, [], { forward, gradient }],
  ];
  if (usesSubgroups) variants.push(["without subgroups", { without: ["subgroups"] }, [], { forward, gradient }]);
  if (halves.length > 0) variants.push(["in float16", {}, halves, HALF_TOLERANCES]);
  describe.skipIf(!hasGpu)(`${op.definition.name} on a GPU`, () => {
    for (const [variant, options, names, allowed] of variants) {
      let backend: WebGpuBackend | undefined;
      it.each(cases.map((opCase) => [opCase.name, opCase] as const))(`%s, ${variant}`, async (_, opCase) => {
        backend ??= await gpuBackend(options);
        if (names.length > 0 && !backend.has("shader-f16")) return;
        const own = withHalves(opCase, names);
        const values = makeValues(own);
        const expected = await runOp(op, own, values, reference);
        const actual = await runOp(op, own, values, backend);
        for (const name in expected.outputs)
          expectClose(name, actual.outputs[name], expected.outputs[name], allowed.forward!);
        for (const name in expected.grads)
          expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], allowed.gradient!);
      });
    }
  });
}

function withHalves<Options>(opCase: OpCase<Options>, names: readonly string[]): OpCase<Options> {
  const inputs = Object.entries(opCase.inputs).map(([name, spec]) => [
    name,
    names.includes(name) ? { ...spec, dtype: "f16" as const } : spec,
  ]);
  return { ...opCase, inputs: Object.fromEntries(inputs) as OpCase<Options>["inputs"] };
}
