// Cases of S4D: its kernel, the long convolution and the recurrence, forward and backward, with where the time goes; and
// whether they agree with the reference on this device.
import { ReferenceBackend } from "../../src/backends/reference/index.ts";
import type { Backend } from "../../src/backends/backend.ts";
import type { DType } from "../../src/core/dtype.ts";
import { createRandom } from "../../src/core/random.ts";
import { fftConvolution } from "../../src/ops/fft-convolution/index.ts";
import { initS4d } from "../../src/ops/s4d-kernel/init.ts";
import { s4dKernel } from "../../src/ops/s4d-kernel/index.ts";
import { s4dScan } from "../../src/ops/s4d-scan/index.ts";
import type { Op, Tensors } from "../../src/tensor/define-op.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly pairs: number;
}

type Inputs = Record<string, Tensor>;

function parametersOn(backend: Backend, { channels, pairs }: Sizes): Inputs {
  const { logDt, A_log_real, A_imag, C } = initS4d({ channels, pairs, kind: "s4d-legs" }, createRandom(1));
  return {
    logDt: tensorFrom(backend, logDt, [channels]),
    A_log_real: tensorFrom(backend, A_log_real, [channels, pairs]),
    A_imag: tensorFrom(backend, A_imag, [channels, pairs]),
    C: tensorFrom(backend, C, [channels, 2 * pairs]),
  };
}

/** Small multiples of 1/64, which float16 holds, so that devices see the same numbers. */
function filled(backend: Backend, shape: readonly number[], dtype: DType = "f32"): Tensor {
  const tensor = emptyTensor(backend, shape, dtype);
  const piece = Float32Array.from({ length: Math.min(tensor.size, 1 << 20) }, (_, i) => (((i * 7919) % 101) - 50) / 64);
  for (let at = 0; at < tensor.size; at += piece.length)
    backend.write(tensor.storage, piece.subarray(0, Math.min(piece.length, tensor.size - at)), at);
  return tensor;
}

interface S4dCase {
  readonly name: string;
  readonly op: Op<Tensors, Tensors, object>;
  readonly options?: object;
  readonly output: string;
  readonly inputs: (backend: Backend) => Inputs;
  readonly isForwardOnly?: boolean;
}

const asOp = (op: unknown): Op<Tensors, Tensors, object> => op as Op<Tensors, Tensors, object>;

function kernelCase(sizes: Sizes): S4dCase {
  return {
    name: `s4d kernel D${sizes.channels} N${sizes.pairs} L${sizes.length}`,
    op: asOp(s4dKernel),
    options: { length: sizes.length },
    output: "kernel",
    inputs: (backend) => parametersOn(backend, sizes),
  };
}

function convolutionCase({ batch, length, channels }: Sizes, dtype: DType = "f32"): S4dCase {
  return {
    name: `s4d convolution ${dtype} B${batch} D${channels} L${length}`,
    op: asOp(fftConvolution),
    output: "y",
    inputs: (backend) => ({
      x: filled(backend, [batch, length, channels], backend.name === "reference" ? "f32" : dtype),
      kernel: filled(backend, [length, channels]),
      D: filled(backend, [channels]),
    }),
  };
}

function scanCase(
  sizes: Sizes,
  { dtype = "f32", isForwardOnly = false }: { dtype?: DType; isForwardOnly?: boolean } = {},
): S4dCase {
  const { batch, length, channels, pairs } = sizes;
  return {
    name: `s4d scan ${dtype} B${batch} D${channels} N${pairs} L${length}`,
    op: asOp(s4dScan),
    output: "y",
    isForwardOnly,
    inputs: (backend) => ({
      ...parametersOn(backend, sizes),
      x: filled(backend, [batch, length, channels], backend.name === "reference" ? "f32" : dtype),
      D: filled(backend, [channels]),
      initialState: filled(backend, [batch, channels, 2 * pairs]),
    }),
  };
}

function timeCase({ name, op, options = {}, output, inputs, isForwardOnly = false }: S4dCase): GpuCase {
  return {
    name,
    tags: ["s4d"],
    async run(backend) {
      const own = inputs(backend);
      const forward = (): void => scope(() => void op(own, options));
      const { ms } = await timeOnGpu(backend, forward);
      const results: Numbers[] = [{ what: "forward", ms, ...(await timeByKernel(backend, forward)) }];
      if (isForwardOnly) return results;
      const { shape, dtype } = scope(() => op(own, options)[output]!);
      const seed = filled(backend, shape, dtype);
      for (const input of Object.values(own)) input.requiresGrad = true;
      const both = (): void =>
        scope(() => {
          const tape = new Tape();
          const outputs = tape.record(() => op(own, options));
          tape.backward(outputs[output]!, seed);
        });
      const time = await timeOnGpu(backend, both);
      results.push({ what: "forward and backward", ms: time.ms, ...(await timeByKernel(backend, both)) });
      return results;
    },
  };
}

/** Outputs and gradients of a case on a backend. */
async function runAll(
  backend: Backend,
  { op, options = {}, output, inputs }: S4dCase,
): Promise<Record<string, ArrayLike<number>>> {
  const own = inputs(backend);
  for (const input of Object.values(own)) input.requiresGrad = true;
  const tape = new Tape();
  const outputs = tape.record(() => op(own, options));
  tape.backward(outputs[output]!, filled(backend, outputs[output]!.shape, outputs[output]!.dtype));
  const values: Record<string, ArrayLike<number>> = {};
  for (const [name, tensor] of Object.entries(outputs)) values[name] = await tensor!.readNative();
  for (const [name, tensor] of Object.entries(own)) values[`grad.${name}`] = await tape.gradOf(tensor)!.readNative();
  return values;
}

function checkCase(s4dCase: S4dCase): GpuCase {
  return {
    name: `agreement: ${s4dCase.name}`,
    tags: ["s4d", "s4d-check"],
    async run(backend) {
      const expected = await runAll(new ReferenceBackend(), s4dCase);
      const actual = await runAll(backend, s4dCase);
      const errors: Record<string, number> = {};
      for (const [name, values] of Object.entries(expected)) {
        let [worst, largest] = [0, 1e-12];
        for (let i = 0; i < values.length; i++) {
          const difference = Math.abs(values[i] - actual[name][i]);
          worst = difference <= worst ? worst : difference;
          largest = Math.max(largest, Math.abs(values[i]));
        }
        errors[name] = worst / largest;
      }
      return errors;
    },
  };
}

const SHORT: Sizes = { batch: 8, length: 2048, channels: 768, pairs: 32 };
const LONG: Sizes = { batch: 1, length: 1 << 17, channels: 768, pairs: 32 };

export const S4D_CASES: readonly GpuCase[] = [
  checkCase(kernelCase({ batch: 1, length: 5000, channels: 40, pairs: 32 })),
  checkCase(convolutionCase({ batch: 3, length: 1500, channels: 40, pairs: 1 })),
  checkCase(convolutionCase({ batch: 2, length: 9000, channels: 20, pairs: 1 })),
  checkCase(scanCase({ batch: 2, length: 700, channels: 40, pairs: 32 })),
  timeCase(kernelCase(SHORT)),
  timeCase(convolutionCase(SHORT)),
  timeCase(convolutionCase(SHORT, "f16")),
  timeCase(scanCase(SHORT)),
  timeCase(kernelCase(LONG)),
  timeCase(convolutionCase(LONG)),
  timeCase(scanCase(LONG, { isForwardOnly: true })),
  timeCase(scanCase({ ...SHORT, length: 1 }, { isForwardOnly: true })),
];
