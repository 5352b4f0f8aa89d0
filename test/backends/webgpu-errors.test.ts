// What goes wrong on a device: refused calls, WGSL, full memory, a lost device. On Dawn's null backend, which computes
// nothing, needs no GPU, and has 512 MiB of memory in buffers of at most 256 MiB.
import { afterEach, describe, expect, it } from "vitest";
import { openGpu } from "../../src/backends/webgpu/adapter.ts";
import { Failures } from "../../src/backends/webgpu/failures.ts";
import type { GpuOptions } from "../../src/backends/webgpu/index.ts";
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { BufferPool } from "../../src/backends/webgpu/pool.ts";
import { BackendError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import { dispatchPlus, wrongKernel } from "../support/gpu-kernels.ts";

const NULL = ["backend=null"];
const MIB = 2 ** 20;
const made: WebGpuBackend[] = [];

async function nullBackend(options: GpuOptions = {}): Promise<WebGpuBackend> {
  const backend = await WebGpuBackend.create({ toggles: NULL, ...options });
  made.push(backend);
  return backend;
}

/** A tensor of so many MiB. */
const large = (backend: WebGpuBackend, mebibytes: number): Tensor => emptyTensor(backend, [(mebibytes * MIB) / 4]);

afterEach(() => {
  for (const backend of made.splice(0)) backend.dispose();
});

describe("a dispatch is refused", () => {
  it("when a buffer is bound twice, once to be written", async () => {
    const backend = await nullBackend();
    const base = zeros(backend, [4, 8]);
    expect(() => dispatchPlus(backend, base.columnsOf(0, 4), base.columnsOf(4, 8), 1)).toThrow(
      "webgpu: testPlus {type:f32,adds:false}: y and x lie in one buffer, and a kernel may not write one of them. Write from a kernel of its own.",
    );
    expect(backend.hasContent(base)).toBe(false);
  });

  it("when a tensor is larger than a binding", async () => {
    const backend = await nullBackend({ maxBindingBytes: MIB });
    const [x, y] = [large(backend, 2), large(backend, 2)];
    expect(() => dispatchPlus(backend, x, y, 1)).toThrow(
      /testPlus .*: x takes 2 MiB, and a kernel of this device sees 1 MiB at once/,
    );
  });

  it("when a buffer is missing or of another type", async () => {
    const backend = await nullBackend();
    const [x, y] = [zeros(backend, [4]), zeros(backend, [4], "i32")];
    expect(() => dispatchPlus(backend, x, y, 1)).toThrow("its buffer y holds f32, and the tensor is i32");
    expect(() => backend.dispatch(wrongKernel, {}, {}, [1])).toThrow("testWrong: nothing was given for its buffer y.");
  });

  it("when the tensor is larger than any buffer, which names the op", async () => {
    const backend = await nullBackend();
    backend.label = "linear";
    expect(() => large(backend, 257)).toThrow(
      "webgpu: linear: a tensor of 257 MiB does not fit: a buffer of this device holds 256 MiB at the most.",
    );
    expect(large(backend, 255).size).toBeGreaterThan(0);
  });
});

describe("WGSL that does not compile", () => {
  it("fails what waits, and the kernel at each further use; all else goes on", async () => {
    const backend = await nullBackend();
    const y = zeros(backend, [4]);
    const use = (): void => backend.dispatch(wrongKernel, { y }, {}, [1]);
    use();
    const waits = [y.read(), y.read(), backend.finish()];
    for (const wait of waits)
      await expect(wait).rejects.toThrow(
        /the kernel "testWrong" does not compile on this device: .*:\d+:\d+ error: unresolved value 'nonsense'/,
      );
    expect(use).toThrow(/testWrong/);
    const x = tensorFrom(backend, [1, 2, 3, 4], [4]);
    dispatchPlus(backend, x, y, 1);
    expect(await y.read()).toHaveLength(4);
  });

  it("is told by the next call, where nobody waits", async () => {
    const backend = await nullBackend();
    const [x, y] = [zeros(backend, [4]), zeros(backend, [4])];
    backend.dispatch(wrongKernel, { y }, {}, [1]);
    backend.submit();
    await backend.device.queue.onSubmittedWorkDone();
    expect(() => dispatchPlus(backend, x, y, 1)).toThrow(/testWrong/);
    dispatchPlus(backend, x, y, 1);
    await backend.finish();
  });
});

it("what WebGPU refuses otherwise is told with its words", async () => {
  const backend = await nullBackend();
  backend.device.createBuffer({ label: "odd", size: 16, usage: 0x1 | 0x80 });
  await expect(backend.finish()).rejects.toThrow(/^webgpu: .*"odd"/s);
  await backend.finish();
});

describe("full memory", () => {
  it("is an error that names the op, and leaves the device usable", async () => {
    const backend = await nullBackend();
    const held = [large(backend, 240), large(backend, 240)];
    backend.label = "linear";
    expect(() => large(backend, 60)).toThrow(
      "webgpu: linear: there is no memory for 60 MiB more on the device; its tensors hold 480 MiB.",
    );
    expect(() => large(backend, 60)).toThrow(BackendError);
    await backend.finish();
    held[0].dispose();
    expect(large(backend, 60).size).toBe(15 * MIB);
    await backend.finish();
  });

  it("is no error where kept buffers can be given up", async () => {
    const backend = await nullBackend();
    large(backend, 240).dispose();
    large(backend, 200).dispose();
    const tensors = [large(backend, 224), large(backend, 208)];
    await backend.finish();
    expect(backend.memory()).toMatchObject({ liveBytes: 432 * MIB, pooledBytes: 0 });
    tensors.forEach((tensor) => tensor.dispose());
  });

  it("can be given a bound of one's own", async () => {
    const backend = await nullBackend({ maxMemoryBytes: 4 * MIB });
    large(backend, 2).dispose();
    const first = large(backend, 3);
    expect(backend.memory()).toMatchObject({ liveBytes: 3 * MIB, pooledBytes: 0 });
    expect(() => large(backend, 2)).toThrow(/no memory for 2 MiB more/);
    first.dispose();
    expect(large(backend, 4).size).toBe(MIB);
  });

  it("is told later in browsers: to who waits, or to the next call; then the device is usable", async () => {
    const { device } = await openGpu({ toggles: NULL });
    const failures = new Failures(device);
    let trims = 0;
    const pool = new BufferPool(device, failures, { reportsAtOnce: false, beforeTrim: () => trims++ });
    const take = (mebibytes: number): GPUBuffer => pool.take(pool.sizeFor(mebibytes * MIB, ""), "scan");
    const held = [take(240), take(240)];
    const failed = take(60);
    await expect(failures.guard("waiting", () => device.queue.onSubmittedWorkDone())).rejects.toThrow(
      /scan: there is no memory for 60 MiB more/,
    );
    expect([pool.isVoid(failed), pool.isVoid(held[0]), trims]).toEqual([true, false, 1]);
    pool.give(failed);
    pool.give(held[0]);
    // It knows now how much there is, and gives up what it keeps before it asks for more.
    const next = take(60);
    await failures.guard("waiting", () => device.queue.onSubmittedWorkDone());
    expect([pool.isVoid(next), trims, pool.account().liveBytes]).toEqual([false, 2, 300 * MIB]);
    device.destroy();
  });
});

describe("a lost device", () => {
  it("fails what waits and all that follows, and takes no other device along", async () => {
    const [backend, other] = [await nullBackend(), await nullBackend()];
    const x = zeros(backend, [4]);
    const waits = [x.read(), backend.finish(), backend.profile(() => undefined)];
    const plan = backend.capture(() => undefined);
    backend.device.destroy();
    for (const wait of waits) await expect(wait).rejects.toThrow(BackendError);
    await expect(backend.lost).resolves.toMatch(/destroyed/);
    const lost = /the device was lost \(.*\)\. Open a new one and load again\./;
    await expect(x.read()).rejects.toThrow(lost);
    await expect(backend.finish()).rejects.toThrow(lost);
    await expect(backend.compileAhead(() => undefined)).rejects.toThrow(lost);
    for (const call of [() => zeros(backend, [1]), () => plan.run(), () => x.write(new Float32Array(4))])
      expect(call).toThrow(lost);
    x.dispose();
    plan.dispose();
    expect(await zeros(other, [4]).read()).toHaveLength(4);
  });

  it("that was disposed of says so, also to what waits", async () => {
    const backend = await nullBackend();
    const x = zeros(backend, [4]);
    const wait = x.read();
    backend.dispose();
    backend.dispose();
    const disposed = "webgpu: this device was disposed of. Open a new one.";
    await expect(wait).rejects.toThrow(disposed);
    expect(() => zeros(backend, [1])).toThrow(disposed);
    x.dispose();
  });
});

describe("opening", () => {
  it("says what an adapter lacks, and what it has", async () => {
    await expect(nullBackend({ require: ["subgroups"], without: ["subgroups"] })).rejects.toThrow(
      "webgpu: subgroups cannot be required and done without. Give one of the two.",
    );
    const all = await nullBackend({ require: ["shader-f16", "subgroups"] });
    const none = await nullBackend({ without: ["shader-f16", "subgroups"] });
    expect([all, none].map((backend) => backend.has("shader-f16") && backend.has("subgroups"))).toEqual([true, false]);
    expect(() => none.allocate("f16", 1)).toThrow(/no shader-f16/);
    await expect(nullBackend({ require: ["tensor-cores" as "subgroups"] })).rejects.toThrow(
      /^webgpu: the adapter \(null-backend\) lacks tensor-cores\. It has: .*shader-f16/,
    );
  });

  it("says what to do where there is no adapter", async () => {
    await expect(WebGpuBackend.create({ adapter: "no such GPU" })).rejects.toThrow(
      /^webgpu: there is no GPU adapter here.*Install a Vulkan, Metal or Direct3D 12 driver, or use --device wasm\.$/s,
    );
  });
});
