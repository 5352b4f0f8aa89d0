// Opening devices by name: what is shared, what is opened anew, and what auto chooses.
import { afterEach, describe, expect, it, vi } from "vitest";
import { openDevice } from "../../src/backends/index.ts";
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { BackendError } from "../../src/core/errors.ts";
import { zeros } from "../../src/tensor/tensor.ts";
import { hasGpu, onGpu } from "../support/backends.ts";

afterEach(() => vi.unstubAllGlobals());

/** A page whose browser offers such adapters. */
function stubNavigator(gpu: { requestAdapter: () => Promise<unknown> } | undefined): void {
  vi.stubGlobal("navigator", { gpu, hardwareConcurrency: 1 });
}

describe.skipIf(!hasGpu)(onGpu("openDevice webgpu"), () => {
  it("shares a device until it is lost or disposed of, then opens a new one", async () => {
    const [first, same] = [await openDevice("webgpu"), await openDevice("webgpu")];
    expect(same).toBe(first);
    const x = zeros(first, [4]);
    (first as WebGpuBackend).device.destroy();
    await expect(x.read()).rejects.toThrow(/the device was lost/);
    const second = await openDevice("webgpu");
    expect(second).not.toBe(first);
    expect(await zeros(second, [2]).read()).toEqual(new Float32Array(2));
    second.dispose();
    const third = await openDevice("webgpu");
    expect(third).not.toBe(second);
    expect(await zeros(third, [2]).read()).toEqual(new Float32Array(2));
    third.dispose();
  });
});

describe("openDevice auto", () => {
  it("takes wasm where the adapter is emulated, without making a device", async () => {
    const requestDevice = vi.fn<() => void>();
    const info = { vendor: "google", architecture: "swiftshader", device: "", description: "" };
    stubNavigator({ requestAdapter: async () => ({ info, requestDevice }) });
    const backend = await openDevice("auto", { threads: 1, build: "simd" });
    expect([backend.name, requestDevice.mock.calls.length]).toEqual(["wasm", 0]);
    backend.dispose();
  });
});

describe("openDevice webgpu without an adapter", () => {
  it("says what to do, and tries again at the next call", async () => {
    const requestAdapter = vi.fn<() => Promise<null>>(async () => null);
    stubNavigator({ requestAdapter });
    for (const calls of [1, 2]) {
      await expect(openDevice("webgpu")).rejects.toThrow(
        "webgpu: there is no GPU adapter here. Install a Vulkan, Metal or Direct3D 12 driver, or use --device wasm.",
      );
      expect(requestAdapter).toHaveBeenCalledTimes(calls);
    }
  });

  it("says what a browser needs that has no WebGPU", async () => {
    stubNavigator(undefined);
    vi.stubGlobal("process", undefined);
    await expect(openDevice("webgpu")).rejects.toThrow(/this browser has no WebGPU here\. It needs a secure page/);
  });

  it("passes on why an adapter gives no device", async () => {
    const requestDevice = async (): Promise<never> => {
      throw new Error("too many devices");
    };
    const adapter = { info: { description: "Some GPU" }, features: new Set(), limits: {}, requestDevice };
    stubNavigator({ requestAdapter: async () => adapter });
    await expect(openDevice("webgpu")).rejects.toThrow(
      new BackendError("webgpu: the adapter (Some GPU) gives no device: too many devices"),
    );
  });
});

describe("the package webgpu", () => {
  afterEach(() => {
    vi.doUnmock("webgpu");
    vi.resetModules();
  });

  it("is named where it has no build for the machine", async () => {
    vi.doMock("webgpu", () => {
      throw new Error("dawn.node: cannot open shared object file");
    });
    const { createDawn } = await import("../../src/backends/webgpu/dawn-node.ts");
    await expect(createDawn(["backend=null"], new Set())).rejects.toThrow(
      /could not be loaded .*Is there a build for .*-.*\? Else use --device wasm\./,
    );
  });
});

it("a peak of memory begins anew where it is asked to", async () => {
  const backend = await openDevice("reference");
  const kept = zeros(backend, [4]);
  const { liveBytes } = backend.memory();
  zeros(backend, [100]).dispose();
  expect(backend.memory().peakBytes).toBeGreaterThan(liveBytes);
  backend.resetPeak();
  expect(backend.memory()).toEqual({ liveBytes, peakBytes: liveBytes });
  kept.dispose();
});
