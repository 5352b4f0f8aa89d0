// fftConvolution on the WASM backend: binds kernels/assembly/fft.ts and fft-convolution.ts.
import type { WasmBackend, WasmStorage } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { powerOfTwoFrom } from "./fft.ts";
import type { FftConvolutionInputs, FftConvolutionOutputs } from "./index.ts";

/** Float32 numbers of a complex number of four channels. */
const NUMBERS = 8;
/** Of a thread's scratch memory. Mirrors SCRATCH_BYTES in kernels/assembly/runtime.ts. */
const SCRATCH_NUMBERS = (2 << 20) / 4;
/** Items that have a workspace at the same time where scratch memory is too small: a multiple of the likely threads. */
const SLOTS = 16;
/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 10;

export function forward(
  { inputs: { x, kernel, D }, outputs: { y } }: ForwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>,
  backend: WasmBackend,
): void {
  withTransforms(backend, x, (call) =>
    call.withSpectra(kernel, (spectra) =>
      call.run("fftConvolve", { x, y, D, spectra, items: x.shape[0] * call.quads, buffers: 1 }),
    ),
  );
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>,
  backend: WasmBackend,
): void {
  const { x, kernel, D } = inputs;
  const { y: gradY } = gradOutputs;
  const { x: gradX, kernel: gradKernel, D: gradD } = gradInputs;
  if (!gradY) return;
  withTransforms(backend, x, (call) => {
    const common = { x: gradY, isCorrelation: true, adds: true };
    if (gradX)
      call.withSpectra(kernel, (spectra) =>
        call.run("fftConvolve", { ...common, y: gradX, D, spectra, items: x.shape[0] * call.quads, buffers: 1 }),
      );
    if (gradKernel || gradD)
      call.run("fftKernelGradient", { ...common, y: gradKernel, other: x, gradD, items: call.quads, buffers: 3 });
  });
}

/** What a kernel over transforms is told; see Args in kernels/assembly/fft-convolution.ts. */
interface TransformCall {
  readonly x: Tensor;
  readonly y: Tensor | undefined;
  readonly D?: Tensor | undefined;
  readonly spectra?: WasmStorage;
  readonly isCorrelation?: boolean;
  readonly adds?: boolean;
  readonly other?: Tensor;
  readonly gradD?: Tensor | undefined;
  readonly items: number;
  /** Transforms that an item holds at once. */
  readonly buffers: number;
}

interface Transforms {
  /** Vectors of four channels. */
  readonly quads: number;
  readonly run: (kernel: string, call: TransformCall) => void;
  readonly withSpectra: (kernel: Tensor, body: (spectra: WasmStorage) => void) => void;
}

/** Makes the table of twiddles for sequences like x, for as long as `body` runs. */
function withTransforms(backend: WasmBackend, like: Tensor, body: (transforms: Transforms) => void): void {
  const [batch, length, channels] = like.shape;
  const size = Math.max(4, powerOfTwoFrom(length));
  const quads = Math.ceil(channels / 4);
  const isSmall = like.size < SERIAL_ELEMENTS;
  const table = backend.allocate("f32", size);
  backend.dispatch("fftTable", [table.pointer, size], isSmall);
  const argsOf = (call: Omit<TransformCall, "items" | "buffers">, workspace: number, first: number, count: number) => [
    ...place(call.x),
    ...place(call.y),
    pointer(call.D),
    batch,
    length,
    channels,
    size,
    table.pointer,
    call.spectra?.pointer ?? 0,
    workspace,
    first,
    count,
    call.isCorrelation ? 1 : 0,
    call.adds ? 1 : 0,
    ...place(call.other),
    pointer(call.gradD),
  ];
  body({
    quads,
    run(kernel, call) {
      const numbers = call.buffers * size * NUMBERS;
      const fits = numbers <= SCRATCH_NUMBERS;
      const slots = fits ? call.items : Math.min(SLOTS, call.items);
      const workspace = fits ? undefined : backend.allocate("f32", slots * numbers);
      for (let first = 0; first < call.items; first += slots) {
        const count = Math.min(slots, call.items - first);
        backend.dispatch(kernel, argsOf(call, workspace?.pointer ?? 0, first, count), isSmall);
      }
      if (workspace) backend.release(workspace);
    },
    withSpectra(kernel, use) {
      const spectra = backend.allocate("f32", quads * size * NUMBERS);
      backend.dispatch("fftSpectra", argsOf({ x: kernel, y: undefined, spectra }, 0, 0, quads), isSmall);
      use(spectra);
      backend.release(spectra);
    },
  });
  backend.release(table);
}

/** Address and row stride; 0, 0 for none. */
function place(tensor: Tensor | undefined): [number, number] {
  return [pointer(tensor), tensor?.rowStride ?? 0];
}
