// A measurement on a GPU: what a case is, and how it takes time. Every file of cases exports a list; main.ts runs them.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { raiseClocks } from "./clocks.ts";

/** Numbers of a case, by name and unit, such as `{ ms: 0.28, "GB/s": 1400 }`; texts say what was left out. */
export type Numbers = { readonly [name: string]: number | string };

export interface GpuCase {
  /** What is measured, with its sizes: "scan forward f32 B8 D1536 L2048". */
  readonly name: string;
  /** Words to choose it by on the command line: "scan", "linear", "decode", "train", "variants". */
  readonly tags: readonly string[];
  run(backend: WebGpuBackend): Promise<Numbers | readonly Numbers[]>;
}

export interface TimingOptions {
  /** Times that body is measured; the median counts. Default 10. */
  readonly runs?: number;
  /** Times that it runs before, at the least. Default 3. */
  readonly warmUps?: number;
}

export interface GpuTime {
  /** Median of GPU time, from the first pass to the end of the last. */
  readonly ms: number;
  readonly least: number;
  readonly most: number;
}

/** Milliseconds that one measurement should take at least: the time stamps of a pass cost some 0.01 ms by themselves. */
const LEAST_MS = 1;
const MOST_REPEATS = 200;

/**
 * GPU time of what `body` queues, by time stamps; wall time where the device has none. A body that is over too soon is
 * queued several times, and the time is that of one.
 */
export async function timeOnGpu(
  backend: WebGpuBackend,
  body: () => void,
  { runs = 10, warmUps = 3 }: TimingOptions = {},
): Promise<GpuTime> {
  for (let i = 0; i < warmUps; i++) body();
  await raiseClocks(backend);
  const measure = async (work: () => void): Promise<number> =>
    backend.has("timestamp-query") ? (await backend.profile(work)).totalMs : timeOnWall(backend, work);
  const repeats = Math.max(1, Math.min(MOST_REPEATS, Math.ceil(LEAST_MS / (await measure(body)))));
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const ms = await measure(() => {
      for (let repeat = 0; repeat < repeats; repeat++) body();
    });
    times.push(ms / repeats);
  }
  return spread(times);
}

/** Wall time of `body` with all that it queues. */
export async function timeOnWall(backend: WebGpuBackend, body: () => void | Promise<void>): Promise<number> {
  await backend.finish();
  const started = performance.now();
  await body();
  await backend.finish();
  return performance.now() - started;
}

/** GPU time by kernel, summed over the dispatches of one run, largest first: where the time goes. */
export async function timeByKernel(backend: WebGpuBackend, body: () => void): Promise<Record<string, string>> {
  await timeOnGpu(backend, body, { runs: 1 });
  const { passes } = await backend.profile(body, { isFine: true });
  const sums = new Map<string, { ms: number; count: number }>();
  for (const { label, ms } of passes) {
    const sum = sums.get(label) ?? { ms: 0, count: 0 };
    sums.set(label, { ms: sum.ms + ms, count: sum.count + 1 });
  }
  const sorted = [...sums].toSorted(([, a], [, b]) => b.ms - a.ms);
  return Object.fromEntries(sorted.map(([label, { ms, count }]) => [label, `${ms.toFixed(4)} ms in ${count}`]));
}

export function spread(times: readonly number[]): GpuTime {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const ms = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { ms, least: sorted[0], most: sorted.at(-1)! };
}
