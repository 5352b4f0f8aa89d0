// WGSL of attention by tiles: what the forward pass, the two backward passes and the cache's prefill share.
//
// A workgroup holds a tile of scores, `tileRows` by `tileColumns`; each thread has `threadRows` x 4 of it in registers.
// There are two kinds of products. One is along the channels of a head: scores = left · right^T, both brought into
// workgroup memory `steps` channels at a time, right turned in blocks of 4 x 4. The other is along the columns of the tile:
// sums += weights · right, the weights having come from registers through workgroup memory.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorType } from "../webgpu-elements.ts";

/** Sizes that decide the speed: powers of two, from 4 on. A part of a kernel's specification. */
export type Tile = {
  readonly tileRows: number;
  readonly tileColumns: number;
  /** Channels brought into workgroup memory at a time. */
  readonly steps: number;
  /** Rows of scores that a thread has, a multiple of 4. */
  readonly threadRows: number;
};

/** From the largest down: 35, 27 and (for heads of up to 256 channels) 11 KiB of workgroup memory. */
const TILES: readonly Tile[] = [
  { tileRows: 64, tileColumns: 64, steps: 32, threadRows: 4 },
  { tileRows: 64, tileColumns: 64, steps: 16, threadRows: 4 },
  { tileRows: 32, tileColumns: 32, steps: 16, threadRows: 4 },
];

/** The tile for so many queries, as far as the device has memory for it. */
export function tileFor(backend: WebGpuBackend, length: number, headDim: number): Tile {
  const { maxComputeWorkgroupStorageSize: most } = backend.device.limits;
  const suits = (tile: Tile): boolean => 16 * vectorsOf(tile, headDim) <= most && length > tile.tileRows / 2;
  return TILES.find(suits) ?? TILES[TILES.length - 1];
}

/** Vectors of workgroup memory. */
function vectorsOf(tile: Tile, headDim: number): number {
  const { left, right, weights } = sizesOf(tile, headDim);
  // Some bytes beside them: what a pass shares among its threads.
  return left + right + weights + 8;
}

interface Sizes {
  readonly across: number;
  readonly threads: number;
  /** Vectors of a head; of the channels that are brought at a time; of a head that a thread sums. */
  readonly head: number;
  readonly part: number;
  readonly own: number;
  /** Rows of the second kind of product brought at a time. */
  readonly chunk: number;
  readonly left: number;
  readonly right: number;
  readonly weights: number;
}

export function sizesOf({ tileRows, tileColumns, steps, threadRows }: Tile, headDim: number): Sizes {
  const across = tileColumns / 4;
  const threads = across * (tileRows / threadRows);
  const head = Math.ceil(headDim / 4);
  const part = Math.min(steps / 4, head);
  const right = Math.max(part * 4 * across, 4 * head);
  let chunk = tileColumns;
  while (chunk * head > right) chunk /= 2;
  const left = Math.max(tileRows * (part + 1), (threads * threadRows) / 4);
  return {
    across,
    threads,
    head,
    part,
    own: Math.ceil(head / across),
    chunk,
    left,
    right,
    weights: tileRows * (across + 1),
  };
}

/** WGSL: `text` for each of a count, in lines. */
export const each = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join("\n");

/** WGSL: constants, workgroup memory, and a thread's place; `down` and `across` count in rows of threads and vectors. */
export function tileHeader(tile: Tile, headDim: number): string {
  const sizes = sizesOf(tile, headDim);
  return /* wgsl */ `
const ROWS = ${tile.tileRows}u;
const COLUMNS = ${tile.tileColumns}u;
const THREAD_ROWS = ${tile.threadRows}u;
const ACROSS = ${sizes.across}u;
const THREADS = ${sizes.threads}u;
const HEAD_DIM = ${headDim}u;
const HEAD = ${sizes.head}u;
const PART = ${sizes.part}u;
const CHUNK = ${sizes.chunk}u;
const LEFT_STRIDE = PART + 1u;
const WEIGHT_STRIDE = ACROSS + 1u;
/** Turned blocks are stored at places that neighbouring threads do not fight for. */
const SWIZZLE = min(8u, ACROSS) - 1u;
const LOG2_E = 1.4426950408889634;
/** Of a key that may not be seen: below all others, and finite. */
const LEAST = -1e30;
const LANES = vec4u(0u, 1u, 2u, 3u);

var<workgroup> left: array<vec4f, ${sizes.left}>;
var<workgroup> right: array<vec4f, ${sizes.right}>;
var<workgroup> weights: array<vec4f, ${sizes.weights}>;`;
}

/** WGSL type of a buffer's elements, in vectors where rows allow it. */
export function tileUse(access: "read" | "write" | "add", type: string, width: VectorWidth): BufferUse {
  return `${access} ${vectorType(type, width)}`;
}

/**
 * WGSL: `read_NAME(base, row, end, part)`: vector `part` of a head in a row, zeros from row `end` (at least 1) on and behind
 * the head. `base` is the element at which the head begins in row 0. Without branches, so that loads go side by side.
 */
export function headReader(name: string, width: VectorWidth, headDim: number): string {
  const head = Math.ceil(headDim / 4);
  const place = `base + min(row, end - 1u) * params.${name}_stride`;
  if (width === 4)
    return /* wgsl */ `
fn read_${name}(base: u32, row: u32, end: u32, part: u32) -> vec4f {
  let value = vec4f(${name}[(${place}) / 4u + min(part, ${head - 1}u)]);
  return select(vec4f(), value, row < end && part < ${head}u);
}`;
  return /* wgsl */ `
fn read_${name}(base: u32, row: u32, end: u32, part: u32) -> vec4f {
  var value = vec4f();
  if (row >= end) { return value; }
  for (var i = 0u; i < min(4u, max(${headDim}u, 4u * part) - 4u * part); i++) {
    value[i] = f32(${name}[${place} + 4u * part + i]);
  }
  return value;
}`;
}

/** WGSL: `store_NAME(base, row, part, value)`, the counterpart of {@link headReader}, which adds where asked. */
export function headWriter(name: string, use: BufferUse, width: VectorWidth, headDim: number): string {
  const [access, type] = use.split(" ");
  const stored = vectorType(type, width);
  const sum = (place: string, value: string): string =>
    access === "add"
      ? `${place} = ${stored}(${width === 4 ? "vec4f" : "f32"}(${place}) + ${value});`
      : `${place} = ${stored}(${value});`;
  if (width === 4)
    return /* wgsl */ `
fn store_${name}(base: u32, row: u32, part: u32, value: vec4f) {
  let at = (base + row * params.${name}_stride) / 4u + part;
  ${sum(`${name}[at]`, "value")}
}`;
  return /* wgsl */ `
fn store_${name}(base: u32, row: u32, part: u32, value: vec4f) {
  for (var i = 0u; i < min(4u, ${headDim}u - 4u * part); i++) {
    let at = base + row * params.${name}_stride + 4u * part + i;
    ${sum(`${name}[at]`, "value[i]")}
  }
}`;
}

/** A tensor's rows in a product: `read_NAME(base, first + row, end, part)`. All are WGSL expressions. */
export interface Rows {
  readonly name: string;
  readonly base: string;
  readonly first: string;
  readonly end: string;
}

const read = ({ name, base, first, end }: Rows, row: string, part: string): string =>
  `read_${name}(${base}, ${first} + ${row}, ${end}, ${part})`;

/**
 * WGSL: declares SCORES_0, SCORES_1 ..., a vector of 4 columns for each row of the thread: the products of rows of `a` and
 * rows of `b` along their channels. Ends with a barrier, and needs one before if left and right are in use.
 */
export function multiplyHeads(scores: string, a: Rows, b: Rows, { threadRows }: Tile): string {
  return /* wgsl */ `
${each(threadRows, (r) => `    var ${scores}_${r} = vec4f();`)}
    for (var begun = 0u; begun < params.head; begun += PART) {
      for (var i = thread; i < ROWS * parts; i += THREADS) {
        left[i / PART * LEFT_STRIDE + i % PART] = ${read(a, "i / PART", "begun + i % PART")};
      }
      for (var i = thread; i < ACROSS * parts; i += THREADS) {
        let part = i % PART;
        let column = i / PART;
        var lines: mat4x4f;
${each(4, (j) => `        lines[${j}] = ${read(b, `4u * column + ${j}u`, "begun + part")};`)}
        lines = transpose(lines);
        let at = 4u * part * ACROSS + (column ^ (part & SWIZZLE));
${each(4, (j) => `        right[at + ${j}u * ACROSS] = lines[${j}];`)}
      }
      workgroupBarrier();
      for (var part = 0u; part < parts; part++) {
        let at = 4u * part * ACROSS + (across ^ (part & SWIZZLE));
${each(4, (j) => `        let b_${j} = right[at + ${j}u * ACROSS];`)}
${each(threadRows, (r) => `        let a_${r} = left[(down * THREAD_ROWS + ${r}u) * LEFT_STRIDE + part];`)}
${each(threadRows, (r) => each(4, (j) => `        ${scores}_${r} = fma(vec4f(a_${r}[${j}]), b_${j}, ${scores}_${r});`))}
      }
      workgroupBarrier();
    }`;
}

/** WGSL: declares SUMS_ROW_OWN, the vectors of a head that a thread sums: every ACROSS-th, from `across` on. */
export function declareSums(sums: string, { threadRows }: Tile, own: number): string {
  return each(threadRows, (r) => each(own, (o) => `  var ${sums}_${r}_${o} = vec4f();`));
}

/** WGSL: the weights of a thread, VALUES_0, VALUES_1 ..., go to workgroup memory. {@link addWeighted} has the barrier. */
export function storeWeights(values: string, { threadRows }: Tile): string {
  return each(
    threadRows,
    (r) => `    weights[(down * THREAD_ROWS + ${r}u) * WEIGHT_STRIDE + across] = ${values}_${r};`,
  );
}

/** WGSL: SUMS += weights · rows of `b`. Ends with a barrier. */
export function addWeighted(sums: string, b: Rows, { threadRows }: Tile, own: number): string {
  const column = (o: number): string => `min(across + ${o}u * ACROSS, HEAD - 1u)`;
  return /* wgsl */ `
    for (var begun = 0u; begun < COLUMNS; begun += CHUNK) {
      for (var i = thread; i < CHUNK * params.head; i += THREADS) {
        right[i] = ${read(b, "begun + i / HEAD", "i % HEAD")};
      }
      workgroupBarrier();
      for (var step = 0u; step < chunks; step++) {
${each(threadRows, (r) => `        let a_${r} = weights[(down * THREAD_ROWS + ${r}u) * WEIGHT_STRIDE + begun / 4u + step];`)}
${each(
  own,
  (o) => `        {
${each(4, (j) => `          let b_${j} = right[(4u * step + ${j}u) * HEAD + ${column(o)}];`)}
${each(threadRows, (r) => each(4, (j) => `          ${sums}_${r}_${o} = fma(vec4f(a_${r}[${j}]), b_${j}, ${sums}_${r}_${o});`))}
        }`,
)}
      }
      workgroupBarrier();
    }`;
}

/** WGSL: `store` for each row (`row`) and vector (`part`) of a thread's sums that exist; VALUE names the sum. */
export function storeSums(
  { threadRows }: Tile,
  own: number,
  { first, end, store }: { first: string; end: string; store: (r: number, o: number) => string },
): string {
  return each(
    threadRows,
    (r) => /* wgsl */ `  {
    let row = ${first} + down * THREAD_ROWS + ${r}u;
    if (row < ${end}) {
${each(own, (o) => `      { let part = across + ${o}u * ACROSS; if (part < HEAD) { ${store(r, o)} } }`)}
    }
  }`,
  );
}

/** WGSL: the head of an entry point: `thread`, `across` and `down`. Its kernel has the parameter `head`: vectors of a head. */
export const TILE_ENTRY: string = /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let across = thread % ACROSS;
  let down = thread / ACROSS;
  // PART and CHUNK / 4, as numbers that compilers do not know: software adapters take long to compile unrolled loops.
  let parts = min(PART, params.head);
  let chunks = min(CHUNK / 4u, CHUNK * params.head);`;
