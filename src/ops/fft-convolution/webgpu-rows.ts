// Transforms of neighbouring points in workgroup memory: all of a sequence where it is short, else a pair of the blocks
// that webgpu-columns.ts leaves; with the product of spectra between the way there and the way back.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { PAIRS, PRODUCTS, stagesText, THREADS } from "./webgpu-stages.ts";
import { batched, readSteps, writeSteps } from "./webgpu-steps.ts";

export type RowsSpec = {
  size: number;
  /** Channels of a workgroup. */
  channels: number;
  /** 1: a whole sequence. 2: a pair of blocks of a longer one. */
  rows: 1 | 2;
  /** Only there, only back, or there and back with the product between. */
  way: "there" | "back" | "both";
  isCorrelation: boolean;
  /** Element type of x where sequences are read, and how y is used where they are written; else spectra. */
  x: string | undefined;
  y: BufferUse | undefined;
  hasD: boolean;
  /** See StagesSpec. */
  isPadded: boolean;
};

/** `there` from x or in place; `both` from x to y or in place; `back` to y or in place. */
export const fftRows: KernelFamily<RowsSpec> = defineKernel<RowsSpec>(
  "fftRows",
  [
    {
      size: 8,
      channels: 4,
      rows: 1,
      way: "both",
      isCorrelation: false,
      x: "f32",
      y: "write f32",
      hasD: true,
      isPadded: true,
    },
    {
      size: 16,
      channels: 4,
      rows: 1,
      way: "both",
      isCorrelation: true,
      x: "f16",
      y: "add f16",
      hasD: false,
      isPadded: false,
    },
    {
      size: 16,
      channels: 2,
      rows: 2,
      way: "both",
      isCorrelation: true,
      x: undefined,
      y: undefined,
      hasD: false,
      isPadded: true,
    },
    {
      size: 16,
      channels: 2,
      rows: 1,
      way: "there",
      isCorrelation: false,
      x: "f32",
      y: undefined,
      hasD: false,
      isPadded: false,
    },
    {
      size: 16,
      channels: 2,
      rows: 2,
      way: "back",
      isCorrelation: false,
      x: undefined,
      y: undefined,
      hasD: false,
      isPadded: true,
    },
    {
      size: 16,
      channels: 2,
      rows: 1,
      way: "back",
      isCorrelation: false,
      x: undefined,
      y: "add f32",
      hasD: false,
      isPadded: false,
    },
  ],
  (spec) => {
    const { way, x, y, hasD } = spec;
    const usesSpectrum = x === undefined || y === undefined;
    return {
      buffers: {
        ...(x && { x: `read ${x}` as BufferUse }),
        // In place unless it only goes there from x, where every element is written; back to y, where it is only read.
        ...(usesSpectrum && { work: x ? "write vec2<f32>" : y ? "read vec2<f32>" : "add vec2<f32>" }),
        ...(way === "both" && { spectrum: "read vec2<f32>" }),
        ...(hasD && { D: "read f32" }),
        ...(y && { y }),
      },
      params: ["length", "channels", "total"],
      body: rowsBody(spec),
    };
  },
);

function rowsBody(spec: RowsSpec): string {
  const { size, channels, rows, way, isCorrelation, x, y } = spec;
  return /* wgsl */ `${stagesText({ size, rows, channels, isPadded: spec.isPadded })}
const IS_CORRELATION = ${isCorrelation};
var<private> blocks: vec2u;
fn block_of(row: u32) -> u32 { return ${rows === 1 ? "0u" : "select(blocks.x, blocks.y, row == 1u)"}; }
${way === "both" || rows === 2 ? PAIRS : ""}
${way === "both" ? PRODUCTS : ""}
${way === "both" ? multiplyText(spec) : ""}
${x ? readSteps() : ""}
${y ? writeSteps(y, spec.hasD) : ""}
${x && y ? "" : PLACE_OF}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * CHANNELS;
  ${rows === 2 ? "blocks = pair_at(group.y);" : ""}
  ${x ? loadSequence(spec) : loadSpectrum(spec)}
  workgroupBarrier();
  ${way === "back" ? "" : "transform(thread);"}
  ${way === "both" ? "multiply(thread, first, group);" : ""}
  ${way === "there" ? "" : "transform_back(thread);"}
  ${y ? storeSequence(spec) : storeSpectrum(spec)}
}`;
}

/** Where point `i / CHANNELS` of the workgroup lies in spectra `[sequence][place][channel]` of sequence `group.z`. */
const PLACE_OF = /* wgsl */ `
fn place_of(sequence: u32, first: u32, i: u32) -> u32 {
  let channel = min(first + i % CHANNELS, params.channels - 1u);
  let point = i / CHANNELS;
  let place = block_of(point / SIZE) * SIZE + point % SIZE;
  return (sequence * params.total + place) * params.channels + channel;
}`;

function loadSpectrum({ size, rows, channels }: RowsSpec): string {
  return batched(size * rows * channels, { load: "work[place_of(group.z, first, i)]", use: "data[pad(i)] = value;" });
}

function storeSpectrum({ size, rows, channels }: RowsSpec): string {
  return /* wgsl */ `
  for (var i = thread; i < ${size * rows * channels}u; i += THREADS) {
    if (first + i % CHANNELS < params.channels) { work[place_of(group.z, first, i)] = data[pad(i)]; }
  }`;
}

/** A whole sequence: steps 2p and 2p + 1 are point p, and there are no more of them than the first half of the points. */
function loadSequence({ size, channels }: RowsSpec): string {
  const half = (size * channels) / 2;
  return batched(half, {
    load: "steps_of_x(group.z, i / CHANNELS, first + i % CHANNELS)",
    use: `data[pad(i)] = value; data[pad(i + ${half}u)] = vec2f(0);`,
  });
}

function storeSequence({ size, channels }: RowsSpec): string {
  return batched((size * channels) / 2, {
    load: "steps_beside(group.z, i / CHANNELS, first + i % CHANNELS)",
    use: "put_steps(group.z, i / CHANNELS, first + i % CHANNELS, value + data[pad(i)]);",
  });
}

/** The product with the spectrum of the kernel, place by place and partner. */
function multiplyText({ size, rows, channels }: RowsSpec): string {
  const count = (size * rows * channels) / 2;
  const most = Math.ceil(count / THREADS);
  return /* wgsl */ `
/** The places of a pair of points: in the workgroup, and in the whole transform. */
struct Places { here: vec2u, all: vec2u }

fn places_of(i: u32, group: vec3u) -> Places {
  let here = pair_at(i);
  ${rows === 2 ? "if (group.y > 0u) { return Places(vec2u(i, 2u * SIZE - 1u - i), vec2u(blocks.x * SIZE + i, blocks.y * SIZE + SIZE - 1u - i)); }" : ""}
  return Places(here, here);
}

fn multiply(thread: u32, first: u32, group: vec3u) {
  var spectra: array<Pair, ${most}>;
  for (var k = 0u; k < ${most}u; k++) {
    let item = min(thread + k * THREADS, ${count - 1}u);
    let places = places_of(item / CHANNELS, group).all;
    let channel = min(first + item % CHANNELS, params.channels - 1u);
    spectra[k] = Pair(spectrum[places.x * params.channels + channel], spectrum[places.y * params.channels + channel]);
  }
  for (var k = 0u; k < ${most}u; k++) {
    let item = thread + k * THREADS;
    if (item >= ${count}u) { continue; }
    let places = places_of(item / CHANNELS, group);
    let p = pad(places.here.x * CHANNELS + item % CHANNELS);
    let q = pad(places.here.y * CHANNELS + item % CHANNELS);
    let x = Pair(data[p], data[q]);
    let h = spectra[k];
    var result: Pair;
    if (places.all.x == 0u) {
      // Places 0 and 1 are their own partners.
      result = Pair(product(Pair(x.p, x.p), Pair(h.p, h.p), 0u).p, product(Pair(x.q, x.q), Pair(h.q, h.q), 1u).p);
    } else {
      result = product(x, h, places.all.x);
    }
    data[p] = result.p;
    data[q] = result.q;
  }
  workgroupBarrier();
}`;
}
