// Plans (capture and replay), kernels compiled ahead, parameters, and profiles of the WebGPU backend.
import { beforeAll, describe, expect, it } from "vitest";
import { ParamSlots } from "../../src/backends/webgpu/params.ts";
import type { WebGpuBackend, WebGpuStorage } from "../../src/backends/webgpu/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import { gpuBackend, hasGpu, onGpu } from "../support/backends.ts";
import { dispatchPlus, wrongKernel } from "../support/gpu-kernels.ts";

const valuesOf = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNative());

describe.skipIf(!hasGpu)(onGpu("plans on WebGPU"), () => {
  let backend: WebGpuBackend;
  beforeAll(async () => {
    backend = await gpuBackend();
  });

  it("replay what was captured, which itself ran nothing", async () => {
    const [x, y] = [tensorFrom(backend, [1, 2], [2]), tensorFrom(backend, [0, 0], [2])];
    const plan = backend.capture(() => dispatchPlus(backend, x, y, 1, true));
    expect(await valuesOf(y)).toEqual([0, 0]);
    plan.run();
    plan.run();
    x.write(new Float32Array([10, 20]));
    plan.run();
    expect(await valuesOf(y)).toEqual([15, 27]);
    plan.dispose();
  });

  it("zero a state that began as promised zeros once, not at each run", async () => {
    const [x, state] = [tensorFrom(backend, [1, 2], [2]), zeros(backend, [2])];
    const plan = backend.capture(() => {
      expect(backend.hasContent(state)).toBe(true);
      dispatchPlus(backend, x, state, 0, true);
    });
    plan.run();
    plan.run();
    expect(await valuesOf(state)).toEqual([2, 4]);
    backend.clear(state.storage);
    plan.run();
    expect(await valuesOf(state)).toEqual([1, 2]);
    plan.dispose();
  });

  it("zero what is cleared inside at each run", async () => {
    const [x, sum, rest] = [tensorFrom(backend, [1, 2], [2]), zeros(backend, [2]), zeros(backend, [2])];
    const plan = backend.capture(() => {
      backend.clear(sum.storage);
      backend.clear(rest.storage);
      dispatchPlus(backend, x, sum, 0, true);
      dispatchPlus(backend, x, sum, 0, true);
    });
    rest.write(new Float32Array([7, 7]));
    plan.run();
    plan.run();
    expect([await valuesOf(sum), await valuesOf(rest)]).toEqual([
      [2, 4],
      [0, 0],
    ]);
    plan.dispose();
  });

  it("use memory again inside, and keep it from others until they are disposed of", async () => {
    const own = await gpuBackend();
    const [x, y] = [tensorFrom(own, [1], [1]), zeros(own, [1])];
    const before = own.memory().liveBytes;
    const plan = own.capture(() => {
      for (let i = 0; i < 20; i++)
        scope(() => {
          const [constant, sum] = [tensorFrom(own, [100 * i], [1]), emptyTensor(own, [1])];
          dispatchPlus(own, x, sum, 1);
          dispatchPlus(own, constant, sum, 0, true);
          dispatchPlus(own, sum, y, 0, true);
        });
    });
    const others = Array.from({ length: 8 }, (_, i) => tensorFrom(own, [i], [1]));
    plan.run();
    plan.run();
    expect(await valuesOf(y)).toEqual([2 * (20 * 2 + 19_000)]);
    expect((await Promise.all(others.map(valuesOf))).flat()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    others.forEach((tensor) => tensor.dispose());
    // Two tensors at a time, and twenty constants of the host.
    expect(own.memory().liveBytes - before).toBe(22 * 256);
    plan.dispose();
    plan.dispose();
    expect(own.memory().liveBytes).toBe(before);
  });

  it("bring what is derived from a weight up to date, and make others do so", async () => {
    const [weight, y] = [tensorFrom(backend, [1, 2], [2]), zeros(backend, [2])];
    const plusOne = (): Tensor => {
      const storage = backend.derived(weight.storage, "plus one", { dtype: "f32", count: 2 }, (into) =>
        dispatchPlus(backend, weight, placeOf(into), 1),
      );
      return placeOf(storage);
    };
    const plan = backend.capture(() => {
      dispatchPlus(backend, plusOne(), y, 0);
      dispatchPlus(backend, y, weight, 0, true);
    });
    plan.run();
    expect(await valuesOf(weight)).toEqual([1 + 2, 2 + 3]);
    plan.run();
    expect(await valuesOf(weight)).toEqual([3 + 4, 5 + 6]);
    const after = zeros(backend, [2]);
    dispatchPlus(backend, plusOne(), after, 0);
    expect(await valuesOf(after)).toEqual([8, 12]);
    plan.dispose();
  });

  it("know nothing of ids after they wrote them", () => {
    const [from, to] = [tensorFrom(backend, [4], [1], "i32"), tensorFrom(backend, [5], [1], "i32")];
    const plan = backend.capture(() => backend.copy(from.storage, 0, to.storage, 0, 1));
    to.write(new Int32Array([6]));
    expect(to.peek()).toEqual(new Int32Array([6]));
    plan.run();
    expect(to.peek()).toBeUndefined();
    plan.dispose();
  });

  it("take more parameters than one buffer has slots", async () => {
    const [x, y] = [tensorFrom(backend, [0], [1]), zeros(backend, [1])];
    const plan = backend.capture(() => {
      for (let i = 0; i < 5000; i++) dispatchPlus(backend, x, y, i, true);
    });
    plan.run();
    expect(await valuesOf(y)).toEqual([(4999 * 5000) / 2]);
    plan.dispose();
  });

  it("refuse to nest or to be read inside, give memory back when they fail, and leave the backend as it was", async () => {
    const own = await gpuBackend();
    const x = tensorFrom(own, [1], [1]);
    const before = own.memory().liveBytes;
    expect(() => own.capture(() => void own.capture(() => undefined))).toThrow(/cannot begin inside/);
    await expect(own.compileAhead(() => void own.capture(() => undefined))).rejects.toThrow(/cannot begin inside/);
    const failing = (): void =>
      scope(() => {
        dispatchPlus(own, x, emptyTensor(own, [1]), 0);
        tensorFrom(own, [1], [1]);
        throw new Error("stop");
      });
    expect(() => own.capture(failing)).toThrow("stop");
    expect(own.memory().liveBytes).toBe(before);
    let reading: Promise<unknown> | undefined;
    own.capture(() => (reading = x.read())).dispose();
    await expect(reading).rejects.toThrow(/nothing can be read inside a capture/);
    expect(await valuesOf(x)).toEqual([1]);
  });

  describe("parameters", () => {
    it("are uploaded once for equal values, and slots are used anew when all are full", async () => {
      const [x, y] = [tensorFrom(backend, [0], [1]), zeros(backend, [1])];
      for (let i = 0; i < 10_000; i++) dispatchPlus(backend, x, y, (i % 4500) - 2250, true);
      expect(await valuesOf(y)).toEqual([4500 * 4499 - 2 * 4500 * 2250 + (1000 * 999) / 2 - 1000 * 2250]);
      const slots = new ParamSlots(backend.device);
      const params = [
        { name: "a", isFloat: false },
        { name: "b", isFloat: true },
      ];
      const slot = (a: number, b: number): number =>
        slots.slotFor({ name: "kernel", params }, { a, b }, [{ at: 8, stride: 4 }]);
      expect([slot(1, 2), slot(1, 3), slot(1, 2), slot(2 ** 32 - 1, 0.5)]).toEqual([0, 256, 0, 512]);
      expect(() => slots.slotFor({ name: "kernel", params }, { a: 1 }, [])).toThrow(
        "webgpu: kernel: nothing was given for its parameter b.",
      );
      slots.destroy();
    });
  });

  describe("compileAhead", () => {
    it("runs nothing, writes nothing, and forgets what it said of contents", async () => {
      const own = await gpuBackend();
      const [x, y, ids] = [tensorFrom(own, [1], [1]), zeros(own, [1]), tensorFrom(own, [3], [1], "i32")];
      const { version } = y.storage as WebGpuStorage;
      await own.compileAhead(() =>
        scope(() => {
          dispatchPlus(own, x, y, 0);
          expect(own.hasContent(y)).toBe(true);
          own.clear(x.storage);
          x.write(new Float32Array([9]));
          ids.write(new Int32Array([4]));
          expect(ids.peek()).toEqual(new Int32Array([4]));
          own.copy(x.storage, 0, y.storage, 0, 1);
          const made = tensorFrom(own, [1, 2], [2], "i32");
          expect(made.peek()).toEqual(new Float64Array([1, 2]));
        }),
      );
      expect([own.hasContent(y), ids.peek(), (y.storage as WebGpuStorage).version]).toEqual([
        false,
        new Float64Array([3]),
        version,
      ]);
      expect([await valuesOf(x), await valuesOf(y), await valuesOf(ids)]).toEqual([[1], [0], [3]]);
      expect(own.memory().liveBytes).toBe(3 * 256);
    });

    it("names the kernel that does not compile, with the line, now and at its use", async () => {
      const own = await gpuBackend();
      const y = emptyTensor(own, [1]);
      const use = (): void => own.dispatch(wrongKernel, { y }, {}, [1]);
      await expect(own.compileAhead(use)).rejects.toThrow(
        /the kernel "testWrong" does not compile on this device: .*unresolved value 'nonsense'/,
      );
      expect(use).toThrow(/testWrong/);
      expect(await valuesOf(tensorFrom(own, [1], [1]))).toEqual([1]);
    });
  });

  it("profiles a whole, or every dispatch, where there are time stamps", async () => {
    const [x, y] = [tensorFrom(backend, [1], [1]), zeros(backend, [1])];
    const body = (): void => {
      backend.label = "op";
      dispatchPlus(backend, x, y, 0, true);
      dispatchPlus(backend, x, y, 1, true);
      backend.label = "";
    };
    const plain = await gpuBackend({ without: ["timestamp-query"] });
    await expect(plain.profile(() => undefined)).rejects.toThrow(/no timestamp-query/);
    if (!backend.has("timestamp-query")) return;
    const whole = await backend.profile(body);
    const { passes, totalMs } = await backend.profile(body, { isFine: true });
    expect([whole.passes.length, whole.totalMs >= 0, totalMs >= 0]).toEqual([1, true, true]);
    expect(passes.map(({ label }) => label)).toEqual(Array(2).fill("op: testPlus {type:f32,adds:true}"));
    expect(await backend.profile(() => undefined)).toEqual({ totalMs: 0, passes: [] });
    expect(await valuesOf(y)).toEqual([6]);
  });
});

/** A storage as a tensor of one row, for a kernel. */
function placeOf(storage: WebGpuStorage): Tensor {
  const { count, dtype } = storage;
  return { storage, dtype, offset: 0, rowStride: count, rows: 1, columns: count } as unknown as Tensor;
}
