// The first stages of a long transform, and the last ones back: transforms of points that lie far apart, one of each block
// that webgpu-rows.ts then takes. Twiddles depend on blocks alone, so nothing is multiplied or transposed between the two.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { stagesText, THREADS } from "./webgpu-stages.ts";
import { batched, readSteps, writeSteps } from "./webgpu-steps.ts";

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
${PLACE_OF}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * CHANNELS;
  let apart = params.total / SIZE;
  ${way === "there" ? there(spec) : back(spec)}
}`,
    };
  },
);

/** Where point `i / CHANNELS` lies in spectra. */
const PLACE_OF = /* wgsl */ `
fn place_of(group: vec3u, first: u32, i: u32) -> u32 {
  let channel = min(first + i % CHANNELS, params.channels - 1u);
  let place = (i / CHANNELS) * (params.total / SIZE) + group.y;
  return (group.z * params.total + place) * params.channels + channel;
}`;

/** Sequences end within the first half of the points. */
function there({ size, channels }: ColumnsSpec): string {
  const half = (size * channels) / 2;
  const load = batched(half, {
    load: "steps_of_x(group.z, (i / CHANNELS) * apart + group.y, first + i % CHANNELS)",
    use: `data[pad(i)] = value; data[pad(i + ${half}u)] = vec2f(0);`,
  });
  return /* wgsl */ `${load}
  workgroupBarrier();
  transform(thread);
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    if (first + i % CHANNELS < params.channels) { work[place_of(group, first, i)] = data[pad(i)]; }
  }`;
}

function back({ size, channels }: ColumnsSpec): string {
  const load = batched(size * channels, { load: "work[place_of(group, first, i)]", use: "data[pad(i)] = value;" });
  const store = batched((size * channels) / 2, {
    load: "steps_beside(group.z, (i / CHANNELS) * apart + group.y, first + i % CHANNELS)",
    use: "put_steps(group.z, (i / CHANNELS) * apart + group.y, first + i % CHANNELS, value + data[pad(i)]);",
  });
  return /* wgsl */ `${load}
  workgroupBarrier();
  transform_back(thread);${store}`;
}
