// How long the GPU takes, by time stamps around passes: for a body as a whole, or for every dispatch of it.
import { BackendError } from "../../core/errors.ts";
import type { PassClock, Recorder } from "./recorder.ts";

const MOST_PASSES = 2048;
const STAMP_BYTES = 8;
const QUERY_RESOLVE_AND_COPY = 0x200 | 0x4;
const MAP_READ_AND_COPY = 0x1 | 0x8;

/** One pass of a profile: a dispatch, where the profile is fine. */
export interface PassTime {
  readonly label: string;
  readonly ms: number;
}

export interface Profile {
  /** From the beginning of the first pass to the end of the last. */
  readonly totalMs: number;
  readonly passes: readonly PassTime[];
}

/**
 * Runs `body` and measures it on the GPU. `isFine`: every dispatch by itself, which costs gaps that a whole does not have.
 * @throws BackendError without the feature timestamp-query
 */
export async function profile(
  device: GPUDevice,
  recorder: Recorder,
  body: () => void,
  { isFine = false }: { isFine?: boolean } = {},
): Promise<Profile> {
  if (!device.features.has("timestamp-query"))
    throw new BackendError("webgpu: this device has no timestamp-query, which a profile needs. Measure wall time.");
  const stamps = device.createQuerySet({ type: "timestamp", count: 2 * MOST_PASSES });
  const labels: string[] = [];
  const clock: PassClock = {
    isFine,
    next(label) {
      const i = labels.length;
      if (i === MOST_PASSES) return undefined;
      labels.push(label);
      return { querySet: stamps, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
    },
  };
  recorder.submit();
  recorder.clock = clock;
  try {
    body();
    recorder.submit();
  } finally {
    recorder.clock = undefined;
  }
  const times = await readStamps(device, stamps, 2 * labels.length);
  stamps.destroy();
  const ms = (from: number, to: number): number => Number(times[to] - times[from]) / 1e6;
  return {
    totalMs: labels.length === 0 ? 0 : ms(0, 2 * labels.length - 1),
    passes: labels.map((label, i) => ({ label, ms: ms(2 * i, 2 * i + 1) })),
  };
}

async function readStamps(device: GPUDevice, stamps: GPUQuerySet, count: number): Promise<BigUint64Array> {
  if (count === 0) return new BigUint64Array(0);
  const size = count * STAMP_BYTES;
  const resolved = device.createBuffer({ size, usage: QUERY_RESOLVE_AND_COPY });
  const mapped = device.createBuffer({ size, usage: MAP_READ_AND_COPY });
  const encoder = device.createCommandEncoder();
  encoder.resolveQuerySet(stamps, 0, count, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, mapped, 0, size);
  device.queue.submit([encoder.finish()]);
  await mapped.mapAsync(1);
  const times = new BigUint64Array(mapped.getMappedRange().slice(0));
  mapped.unmap();
  resolved.destroy();
  mapped.destroy();
  return times;
}
