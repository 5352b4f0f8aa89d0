// How fast a GPU answers: the time of a dispatch, of a round trip to the host, and the rate of a plain copy.
import { defineKernel } from "../../../backends/webgpu/index.ts";
import type { KernelFamily, WebGpuBackend } from "../../../backends/webgpu/index.ts";

export interface GpuSpeed {
  /** Microseconds of one of many small kernels that wait for each other: as seen from here, and on the GPU alone (null without time stamps). */
  readonly dispatchMicroseconds: { readonly wall: number; readonly gpu: number | null };
  /** From a submission to its result in the host's memory. */
  readonly roundTripMicroseconds: number;
  /** Of a copy of a large buffer: bytes read and bytes written, a second. */
  readonly copyGigabytesPerSecond: number;
}

const DISPATCHES = 1000;
const SMALL = 64;
const ROUND_TRIPS = 20;
/** Larger than the caches of a GPU; for one that the processor emulates, than its own. */
const COPY_BYTES = { hardware: 2 ** 28, software: 2 ** 25 };
const COPIES = { hardware: 64, software: 4 };

export async function measureGpu(backend: WebGpuBackend): Promise<GpuSpeed> {
  const y = backend.allocate("f32", SMALL);
  const chain = (): void => {
    for (let i = 0; i < DISPATCHES; i++) backend.dispatch(addOne({}), { y }, {}, [1]);
  };
  chain();
  await backend.finish();
  const wall = await timeOf(async () => {
    chain();
    await backend.finish();
  });
  const gpu = backend.has("timestamp-query") ? (await backend.profile(chain)).totalMs : null;
  const trips: number[] = [];
  for (let i = 0; i < ROUND_TRIPS; i++) trips.push(await timeOf(() => backend.read(y, 0, 1)));
  const roundTripMs = trips.toSorted((a, b) => a - b)[ROUND_TRIPS >> 1];
  backend.release(y);
  return {
    dispatchMicroseconds: {
      wall: (wall * 1000) / DISPATCHES,
      gpu: gpu === null ? null : (gpu * 1000) / DISPATCHES,
    },
    roundTripMicroseconds: roundTripMs * 1000,
    copyGigabytesPerSecond: await measureCopy(backend),
  };
}

/** y += 1: a kernel that must wait for the one before it, and has next to nothing to do. */
const addOne: KernelFamily<Record<string, never>> = defineKernel("addOne", [{}], () => ({
  buffers: { y: "add f32" },
  body: /* wgsl */ `
@compute @workgroup_size(${SMALL})
fn main(@builtin(local_invocation_index) thread: u32) {
  y[params.y_at + thread] += 1.0;
}`,
}));

async function measureCopy(backend: WebGpuBackend): Promise<number> {
  const kind = backend.about.isSoftware ? "software" : "hardware";
  const bytes = Math.min(COPY_BYTES[kind], backend.device.limits.maxBufferSize);
  const [from, to] = [backend.allocate("f32", bytes / 4), backend.allocate("f32", bytes / 4)];
  const copy = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) backend.copy(from, 0, to, 0, from.count);
    await backend.finish();
  };
  await copy(1);
  // What one copy takes beside its bytes is in both.
  const [one, many] = [await timeOf(() => copy(1)), await timeOf(() => copy(1 + COPIES[kind]))];
  backend.release(from);
  backend.release(to);
  return (2 * bytes * COPIES[kind]) / Math.max(many - one, 1e-3) / 1e6;
}

async function timeOf(body: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await body();
  return performance.now() - started;
}
