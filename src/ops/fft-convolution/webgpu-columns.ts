// The first stages of a long transform, and the last ones back: transforms of points that lie far apart, one of each block
// that webgpu-rows.ts then takes. Twiddles depend on blocks alone, so nothing is multiplied or transposed between the two.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { readSteps, stagesText, THREADS, writeSteps } from "./webgpu-stages.ts";

export type ColumnsSpec = {
  /** Blocks: points of a transform. */
  size: number;
  /** Channels of a workgroup. */
  channels: number;
  /** From x to spectra, or from spectra to y. */
  way: "there" | "back";
  x: string | undefined;
  y: BufferUse | undefined;
  hasD: boolean;
  /** See StagesSpec. */
  isPadded: boolean;
};

export const fftColumns: KernelFamily<ColumnsSpec> = defineKernel<ColumnsSpec>(
  "fftColumns",
  [
    { size: 8, channels: 4, way: "there", x: "f16", y: undefined, hasD: false, isPadded: true },
    { size: 16, channels: 4, way: "back", x: "f32", y: "write f32", hasD: true, isPadded: false },
    { size: 16, channels: 4, way: "back", x: undefined, y: "add f16", hasD: false, isPadded: true },
  ],
  (spec) => {
    const { size, channels, way, x, y, hasD } = spec;
    return {
      buffers: {
        ...(x && { x: `read ${x}` as BufferUse }),
        work: way === "there" ? "write vec2<f32>" : "read vec2<f32>",
        ...(hasD && { D: "read f32" }),
        ...(y && { y }),
      },
      params: ["length", "channels", "total"],
      body: /* wgsl */ `${stagesText({ size, rows: 1, channels, isPadded: spec.isPadded })}
fn block_of(row: u32) -> u32 { return 0u; }
${x ? readSteps() : ""}
${y ? writeSteps(y, hasD) : ""}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * CHANNELS;
  let apart = params.total / SIZE;
  ${way === "there" ? THERE : BACK}
}`,
    };
  },
);

const THERE = /* wgsl */ `
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    data[pad(i)] = steps_of_x(group.z, (i / CHANNELS) * apart + group.y, first + i % CHANNELS);
  }
  workgroupBarrier();
  transform(thread);
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    let channel = first + i % CHANNELS;
    let place = (i / CHANNELS) * apart + group.y;
    if (channel < params.channels) { work[(group.z * params.total + place) * params.channels + channel] = data[pad(i)]; }
  }`;

const BACK = /* wgsl */ `
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    let channel = first + i % CHANNELS;
    let place = (i / CHANNELS) * apart + group.y;
    if (channel < params.channels) { data[pad(i)] = work[(group.z * params.total + place) * params.channels + channel]; }
  }
  workgroupBarrier();
  transform_back(thread);
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    put_steps(group.z, (i / CHANNELS) * apart + group.y, first + i % CHANNELS, data[pad(i)]);
  }`;
