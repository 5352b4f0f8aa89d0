// gelu on the WebGPU backend: element by element, vectors where rows allow it.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  dispatchElements,
  elementsHeader,
  gradientUse,
  SIGMOID,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { GeluInputs, GeluOptions, GeluOutputs } from "./index.ts";

export function forward(
  { inputs: { x }, outputs: { y }, options }: ForwardCall<GeluInputs, GeluOutputs, GeluOptions>,
  backend: WebGpuBackend,
): void {
  const { approximate = "none" } = options;
  splitRows(backend, { x, y }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.y);
    const kernel = geluForward({ x: x.dtype, y: y.dtype, approximate, width });
    dispatchElements(backend, kernel, parts, { like: parts.y, width });
  });
}

export function backward(
  { inputs: { x }, options, gradOutputs, gradInputs }: BackwardCall<GeluInputs, GeluOutputs, GeluOptions>,
  backend: WebGpuBackend,
): void {
  const { approximate = "none" } = options;
  const { y: gradY } = gradOutputs;
  const { x: gradX } = gradInputs;
  if (!gradY || !gradX) return;
  const use = gradientUse(backend, gradX);
  splitRows(backend, { x, gradY, gradX }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.gradY, parts.gradX);
    const kernel = geluBackward({ x: x.dtype, gradY: gradY.dtype, gradX: use, approximate, width });
    dispatchElements(backend, kernel, parts, { like: parts.x, width });
  });
}

/**
 * WGSL for approximate "none". `bell(v)`: e^(-v²/2), 0 from 14 on. `tail(size, curve)`: 1 - Φ(size) for size from 0 on, where
 * curve is bell(size); the relative error of the fit is 1.3e-7. See README.md.
 */
const NORMAL = /* wgsl */ `
fn bell(v: Floats) -> Floats { return exp(-0.5 * v * v); }
fn tail(size: Floats, curve: Floats) -> Floats {
  let t = 1 / (1 + 0.23 * size);
  let high = ((-0.07388242334127426 * t + 0.2688492238521576) * t - 0.2349843829870224) * t + 0.2535971403121948;
  let low = ((high * t - 0.0007326881750486791) * t + 0.10610343515872955) * t + 0.08914203196763992;
  return (low * t + 0.09190774708986282) * t * curve;
}`;

/** WGSL for approximate "tanh": `scale_of(v * v)`, 2 √(2/π) (1 + 0.044715 v²); (1 + tanh(u)) / 2 is sigmoid(2 u). */
const TANH = /* wgsl */ `${SIGMOID}
fn scale_of(square: Floats) -> Floats { return 1.5957691216 + 0.0713548162726 * square; }`;

const VALUE = {
  none: /* wgsl */ `
  let size = min(abs(v), Floats(14));
  let value = max(v, Floats(0)) - size * tail(size, bell(size));`,
  tanh: /* wgsl */ `
  let value = v * sigmoid(v * scale_of(v * v));`,
} as const;

const SLOPE = {
  none: /* wgsl */ `
  let size = min(abs(v), Floats(14));
  let curve = bell(size);
  let beyond = tail(size, curve);
  let slope = select(1 - beyond, beyond, v < Floats(0)) + 0.3989422804 * v * curve;`,
  tanh: /* wgsl */ `
  let square = v * v;
  let s = sigmoid(v * scale_of(square));
  let slope = s + s * (1 - s) * v * (1.5957691216 + 0.2140644488178 * square);`,
} as const;

type ForwardSpec = { x: string; y: string; approximate: "none" | "tanh"; width: VectorWidth };

const geluForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "gelu",
  [
    { x: "f32", y: "f32", approximate: "none", width: 4 },
    { x: "f16", y: "f16", approximate: "tanh", width: 1 },
  ],
  ({ x, y, approximate, width }) => ({
    buffers: { x: `read ${vectorType(x, width)}`, y: `write ${vectorType(y, width)}` },
    params: ["rows", "columns"],
    body:
      (approximate === "none" ? NORMAL : TANH) +
      elementsHeader(
        width,
        /* wgsl */ `
  let v = Floats(${vectorAt("x")});
  ${VALUE[approximate]}
  ${storeTo("y", `write ${y}`, width, { value: "value" })}`,
      ),
  }),
);

type BackwardSpec = { x: string; gradY: string; gradX: BufferUse; approximate: "none" | "tanh"; width: VectorWidth };

const geluBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "geluBackward",
  [
    { x: "f32", gradY: "f32", gradX: "add f32", approximate: "none", width: 4 },
    { x: "f16", gradY: "f16", gradX: "write f16", approximate: "tanh", width: 1 },
  ],
  ({ x, gradY, gradX, approximate, width }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      gradY: `read ${vectorType(gradY, width)}`,
      gradX: vectorUse(gradX, width),
    },
    params: ["rows", "columns"],
    body:
      (approximate === "none" ? NORMAL : TANH) +
      elementsHeader(
        width,
        /* wgsl */ `
  let v = Floats(${vectorAt("x")});
  ${SLOPE[approximate]}
  ${storeTo("gradX", gradX, width, { value: `slope * Floats(${vectorAt("gradY")})` })}`,
      ),
  }),
);
