// Transforms of neighbouring points in workgroup memory: all of a sequence where it is short, else a pair of the blocks
// that webgpu-columns.ts leaves; with the product of spectra between the way there and the way back.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { PAIRS, PRODUCTS, readSteps, stagesText, THREADS, writeSteps } from "./webgpu-stages.ts";

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

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = group.x * CHANNELS;
  ${rows === 2 ? "blocks = pair_at(group.y);" : ""}
  ${x ? loadSequence() : loadSpectrum()}
  workgroupBarrier();
  ${way === "back" ? "" : "transform(thread);"}
  ${way === "both" ? "multiply(thread, first, group);" : ""}
  ${way === "there" ? "" : "transform_back(thread);"}
  ${y ? storeSequence() : storeSpectrum()}
}`;
}

/** Where point `i / CHANNELS` of the workgroup lies in spectra `[sequence][place][channel]` of sequence `group.z`. */
const PLACE = /* wgsl */ `
    let channel = first + i % CHANNELS;
    let point = i / CHANNELS;
    let place = block_of(point / SIZE) * SIZE + point % SIZE;
    let to = (group.z * params.total + place) * params.channels + channel;`;

function loadSpectrum(): string {
  return /* wgsl */ `
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {${PLACE}
    if (channel < params.channels) { data[pad(i)] = work[to]; }
  }`;
}

function storeSpectrum(): string {
  return /* wgsl */ `
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {${PLACE}
    if (channel < params.channels) { work[to] = data[pad(i)]; }
  }`;
}

/** A whole sequence: steps 2p and 2p + 1 are point p; zeros behind it. */
function loadSequence(): string {
  return /* wgsl */ `
  for (var i = thread; i < POINTS * CHANNELS; i += THREADS) {
    data[pad(i)] = steps_of_x(group.z, i / CHANNELS, first + i % CHANNELS);
  }`;
}

function storeSequence(): string {
  return /* wgsl */ `
  for (var i = thread; i < min(POINTS, (params.length + 1u) / 2u) * CHANNELS; i += THREADS) {
    put_steps(group.z, i / CHANNELS, first + i % CHANNELS, data[pad(i)]);
  }`;
}

/** The product with the spectrum of the kernel, place by place and partner. */
function multiplyText({ rows }: RowsSpec): string {
  return /* wgsl */ `
fn multiply(thread: u32, first: u32, group: vec3u) {
  for (var item = thread; item < POINTS * CHANNELS / 2u; item += THREADS) {
    let i = item / CHANNELS;
    let channel = item % CHANNELS;
    if (first + channel >= params.channels) { continue; }
    var at = pair_at(i);
    var places = at;
    ${rows === 2 ? "if (group.y > 0u) { at = vec2u(i, 2u * SIZE - 1u - i); places = vec2u(blocks.x * SIZE + i, blocks.y * SIZE + SIZE - 1u - i); }" : ""}
    let x = Pair(data[pad(at.x * CHANNELS + channel)], data[pad(at.y * CHANNELS + channel)]);
    let h = Pair(spectrum[places.x * params.channels + first + channel], spectrum[places.y * params.channels + first + channel]);
    var result: Pair;
    if (places.x == 0u) {
      // Places 0 and 1 are their own partners.
      result = Pair(product(Pair(x.p, x.p), Pair(h.p, h.p), 0u).p, product(Pair(x.q, x.q), Pair(h.q, h.q), 1u).p);
    } else {
      result = product(x, h, places.x);
    }
    data[pad(at.x * CHANNELS + channel)] = result.p;
    data[pad(at.y * CHANNELS + channel)] = result.q;
  }
  workgroupBarrier();
}`;
}
