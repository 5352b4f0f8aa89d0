// The memory of the WebGPU backend: pool, promised zeros, transfers of all dtypes, what the host still knows.
import { beforeAll, describe, expect, it } from "vitest";
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { BackendError } from "../../src/core/errors.ts";
import { emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { onGpu, gpuBackend, hasGpu } from "../support/backends.ts";
import { dispatchPlus } from "../support/gpu-kernels.ts";

const count = (n: number, from = 1): number[] => Array.from({ length: n }, (_, i) => i + from);
const valuesOf = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNative());

describe.skipIf(!hasGpu)(onGpu("memory on WebGPU"), () => {
  let backend: WebGpuBackend;
  beforeAll(async () => {
    backend = await gpuBackend();
  });
  const has16 = (): boolean => backend.has("shader-f16");

  /** A tensor of zeros by promise, whose memory held other numbers before. */
  function promised(shape: number[], dtype: "f32" | "f16" = "f32"): Tensor {
    const tensor = emptyTensor(backend, shape, dtype);
    tensor.write(Float64Array.from(count(tensor.size, 100)));
    backend.clear(tensor.storage);
    return tensor;
  }

  describe("the pool", () => {
    it("counts what lives, its peak and what is kept, and uses it again", async () => {
      const own = await gpuBackend();
      const [a, b] = [emptyTensor(own, [1000]), emptyTensor(own, [1000])];
      expect(own.memory()).toEqual({ liveBytes: 8192, peakBytes: 8192, pooledBytes: 0 });
      const { buffer } = own.allocate("f32", 0);
      a.dispose();
      b.dispose();
      b.dispose();
      expect(own.memory()).toEqual({ liveBytes: 256, peakBytes: 8448, pooledBytes: 8192 });
      expect(buffer.size).toBe(256);
      const again = emptyTensor(own, [990]);
      expect(own.memory()).toMatchObject({ liveBytes: 4352, pooledBytes: 4096 });
      again.dispose();
      own.trim();
      expect(own.memory()).toEqual({ liveBytes: 256, peakBytes: 8448, pooledBytes: 0 });
    });

    it("gives memory to the next tensor while commands that use it still wait", async () => {
      const x = tensorFrom(backend, count(64), [64]);
      const y = emptyTensor(backend, [64]);
      dispatchPlus(backend, x, y, 1);
      const copy = emptyTensor(backend, [64]);
      backend.copy(y.storage, 0, copy.storage, 0, 64);
      y.dispose();
      const other = tensorFrom(backend, count(64, 500), [64]);
      expect(await valuesOf(copy)).toEqual(count(64, 2));
      expect(await valuesOf(other)).toEqual(count(64, 500));
    });

    it("trims while commands wait", async () => {
      const x = tensorFrom(backend, count(64), [64]);
      const [y, z] = [emptyTensor(backend, [64]), emptyTensor(backend, [64])];
      dispatchPlus(backend, x, y, 1);
      dispatchPlus(backend, y, z, 1);
      y.dispose();
      backend.trim();
      expect(await valuesOf(z)).toEqual(count(64, 3));
    });
  });

  describe("promised zeros", () => {
    it("are there for whoever reads, whole or in part", async () => {
      expect(await valuesOf(promised([3, 5]))).toEqual(Array(15).fill(0));
      expect(await valuesOf(promised([3, 5]).columnsOf(1, 3))).toEqual(Array(6).fill(0));
      const [x, y] = [promised([3, 5]), emptyTensor(backend, [3, 2])];
      dispatchPlus(backend, x.columnsOf(2, 4), y, 7);
      expect(await valuesOf(y)).toEqual(Array(6).fill(7));
    });

    it("are no content, until a kernel or the host writes there", async () => {
      const y = promised([3, 6]);
      const [left, middle, right] = [y.columnsOf(0, 2), y.columnsOf(2, 4), y.columnsOf(4, 6)];
      expect([y, left, middle].map((place) => backend.hasContent(place))).toEqual([false, false, false]);
      const x = tensorFrom(backend, count(6), [3, 2]);
      dispatchPlus(backend, x, left, 0);
      expect([y, left, middle, right].map((place) => backend.hasContent(place))).toEqual([true, true, false, false]);
      dispatchPlus(backend, x, right, 0);
      expect(backend.hasContent(middle)).toBe(false);
      dispatchPlus(backend, x, middle, 0, true);
      expect(backend.hasContent(middle)).toBe(true);
      dispatchPlus(backend, x, middle, 0, true);
      expect(await valuesOf(y)).toEqual([1, 2, 2, 4, 1, 2, 3, 4, 6, 8, 3, 4, 5, 6, 10, 12, 5, 6]);
    });

    it("are kept in columns that were not written, for readers of rows, of halves too", async () => {
      for (const dtype of ["f32", ...(has16() ? (["f16"] as const) : [])] as const) {
        const y = promised([3, 5], dtype);
        dispatchPlus(backend, tensorFrom(backend, count(6), [3, 2], dtype), y.columnsOf(1, 3), 0);
        expect(await valuesOf(y.rowsOf(1, 1))).toEqual([0, 3, 4, 0, 0]);
        expect(await valuesOf(y)).toEqual([0, 1, 2, 0, 0, 0, 3, 4, 0, 0, 0, 5, 6, 0, 0]);
      }
    });

    it("are kept where a kernel overwrites only some rows, or columns of another width", async () => {
      const y = promised([4, 6]);
      dispatchPlus(backend, tensorFrom(backend, count(6), [1, 6]), y.rowsOf(2, 1), 0);
      expect(await valuesOf(y)).toEqual([...Array(12).fill(0), ...count(6), ...Array(6).fill(0)]);
      const z = promised([4, 6]);
      dispatchPlus(backend, tensorFrom(backend, count(8), [4, 2]), z.columnsOf(0, 2), 0);
      dispatchPlus(backend, tensorFrom(backend, count(8, 50), [8]), z.reshape([24]).columnsOf(8, 16), 0);
      expect(await valuesOf(z)).toEqual([1, 2, 0, 0, 0, 0, 3, 4, ...count(8, 50), 0, 0, 7, 8, 0, 0, 0, 0]);
    });

    it("are kept around columns of a tensor that is one row", async () => {
      const x = tensorFrom(backend, [1, 2], [2]);
      for (const shape of [[8], [1, 8]]) {
        const y = promised(shape);
        dispatchPlus(backend, x, y.columnsOf(1, 3), 0);
        expect(backend.hasContent(y)).toBe(true);
        dispatchPlus(backend, x, y.columnsOf(4, 6), 0);
        expect(backend.hasContent(y.columnsOf(1, 3))).toBe(true);
        expect(backend.hasContent(y.columnsOf(6, 8))).toBe(false);
        expect(await valuesOf(y)).toEqual([0, 1, 2, 0, 1, 2, 0, 0]);
      }
    });

    it("are kept around what the host writes", async () => {
      const y = promised([4, 3]);
      backend.write(y.storage, new Float32Array([1, 2]), 4);
      expect(await valuesOf(y)).toEqual([0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
      const z = promised([2, 3]);
      z.columnsOf(1, 3).write(new Float32Array([1, 2, 3, 4]));
      expect(await valuesOf(z)).toEqual([0, 1, 2, 0, 3, 4]);
    });

    it("follow copies in both directions", async () => {
      const [from, to] = [promised([2, 3]), tensorFrom(backend, count(6), [2, 3])];
      backend.copy(from.storage, 2, to.storage, 1, 3);
      expect(await valuesOf(to)).toEqual([1, 0, 0, 0, 5, 6]);
      const target = promised([2, 3]);
      backend.copy(to.storage, 4, target.storage, 0, 2);
      expect(await valuesOf(target)).toEqual([5, 6, 0, 0, 0, 0]);
      const whole = promised([2, 3]);
      backend.copy(to.storage, 0, whole.storage, 0, 6);
      expect(await valuesOf(whole)).toEqual([1, 0, 0, 0, 5, 6]);
    });

    it("are written piece by piece where a tensor is larger than a binding", async () => {
      const small = await gpuBackend({ maxBindingBytes: 4096 });
      const y = tensorFrom(small, new Float32Array(8 * 600).fill(9), [600, 8]);
      small.clear(y.storage);
      for (let row = 0; row < 600; row += 100)
        dispatchPlus(small, tensorFrom(small, Array(300).fill(1), [100, 3]), y.rowsOf(row, 100).columnsOf(1, 4), 0);
      const values = await valuesOf(y);
      expect(values.filter((value, i) => value !== (i % 8 >= 1 && i % 8 < 4 ? 1 : 0))).toEqual([]);
    });
  });

  describe("transfers", () => {
    it("bring every dtype there and back", async () => {
      expect(await valuesOf(tensorFrom(backend, [1.5, -2, 3e-8], [3]))).toEqual([1.5, -2, Math.fround(3e-8)]);
      expect(await valuesOf(tensorFrom(backend, [7, -(2 ** 31), 2 ** 31 - 1], [3], "i32"))).toEqual([
        7,
        -(2 ** 31),
        2 ** 31 - 1,
      ]);
      expect(await valuesOf(tensorFrom(backend, [1, -128, 127, 5, 6], [5], "i8"))).toEqual([1, -128, 127, 5, 6]);
      expect(await valuesOf(zeros(backend, [0]))).toEqual([]);
    });

    it("write, copy and read halves at odd places", async () => {
      if (!has16()) return expect(() => backend.allocate("f16", 1)).toThrow(/no shader-f16/);
      const x = tensorFrom(backend, count(9), [9], "f16");
      expect(await valuesOf(x)).toEqual(count(9));
      backend.write(x.storage, new Float32Array([20, 21, 22]), 3);
      backend.write(x.storage, new Float32Array([30]), 8);
      expect(await valuesOf(x)).toEqual([1, 2, 3, 20, 21, 22, 7, 8, 30]);
      expect(Array.from(await backend.read(x.storage, 3, 4))).toEqual([20, 21, 22, 7]);
      const into = new Float32Array(3);
      await backend.readInto(x.storage, 5, into);
      expect(Array.from(into)).toEqual([22, 7, 8]);
      const y = tensorFrom(backend, count(5, 50), [5], "f16");
      backend.copy(x.storage, 3, y.storage, 0, 3);
      backend.copy(x.storage, 8, y.storage, 4, 1);
      expect(await valuesOf(y)).toEqual([20, 21, 22, 53, 30]);
      const rows = tensorFrom(backend, count(15), [5, 3], "f16");
      expect(await valuesOf(rows.rowsOf(1, 3))).toEqual(count(9, 4));
      rows.columnsOf(1, 2).write(Float32Array.from(count(5, 90)));
      expect(await valuesOf(rows.columnsOf(1, 2))).toEqual(count(5, 90));
    });

    it("copy within one tensor, ranges that overlap too", async () => {
      const x = tensorFrom(backend, count(8), [8]);
      backend.copy(x.storage, 0, x.storage, 2, 5);
      expect(await valuesOf(x)).toEqual([1, 2, 1, 2, 3, 4, 5, 8]);
    });

    it("read several tensors at once, each as it was when asked", async () => {
      const x = tensorFrom(backend, [1, 2], [2]);
      const first = x.read();
      x.write(new Float32Array([3, 4]));
      const second = x.read();
      dispatchPlus(backend, tensorFrom(backend, [5, 6], [2]), x, 0);
      const third = x.read();
      expect((await Promise.all([first, second, third])).map((values) => Array.from(values))).toEqual([
        [1, 2],
        [3, 4],
        [5, 6],
      ]);
    });

    it("write behind what is queued and before what follows", async () => {
      const [x, y] = [tensorFrom(backend, [1], [1]), zeros(backend, [1])];
      dispatchPlus(backend, x, y, 0, true);
      x.write(new Float32Array([10]));
      dispatchPlus(backend, x, y, 0, true);
      expect(await valuesOf(y)).toEqual([11]);
    });

    it("refuse what does not fit", () => {
      const x = emptyTensor(backend, [4]);
      expect(() => backend.write(x.storage, new Float32Array(3), 2)).toThrow(
        "webgpu: 3 elements at 2 do not fit into a tensor of 4.",
      );
      const bytes = emptyTensor(backend, [8], "i8");
      expect(() => backend.copy(bytes.storage, 1, emptyTensor(backend, [8], "i8").storage, 0, 3)).toThrow(
        /packed bytes are copied in whole words only/,
      );
    });
  });

  it("knows the ids that the host wrote, until something else writes there", () => {
    const ids = tensorFrom(backend, [3, 1, 2, 5], [2, 2], "i32");
    expect(Array.from(ids.peek()!)).toEqual([3, 1, 2, 5]);
    expect(Array.from(ids.entries(1, 1).peek()!)).toEqual([2, 5]);
    expect(Array.from(ids.readNow())).toEqual([3, 1, 2, 5]);
    expect(tensorFrom(backend, [1], [1]).peek()).toBeUndefined();
    expect(() => tensorFrom(backend, [1], [1]).readNow()).toThrow(/await tensor.read/);
    const other = tensorFrom(backend, [9, 9], [2], "i32");
    backend.copy(other.storage, 0, ids.storage, 0, 2);
    expect(ids.peek()).toBeUndefined();
    expect(() => ids.readNow()).toThrow(BackendError);
  });

  it("keeps what is derived until the contents change, and gives it back with them", async () => {
    const own = await gpuBackend();
    const x = tensorFrom(own, [1, 2], [2]);
    let made = 0;
    const double = async (): Promise<number[]> => {
      const storage = own.derived(x.storage, "plus one", { dtype: "f32", count: 2 }, (into) => {
        made++;
        const y = { storage: into, offset: 0, rowStride: 2, rows: 1, columns: 2 } as unknown as Tensor;
        dispatchPlus(own, x, y, 1);
      });
      return Array.from(await own.read(storage, 0, 2));
    };
    const results = [await double(), await double()];
    x.write(new Float32Array([5, 6]));
    results.push(await double());
    expect([results, made]).toEqual([
      [
        [2, 3],
        [2, 3],
        [6, 7],
      ],
      2,
    ]);
    expect(own.memory().liveBytes).toBe(512);
    x.dispose();
    expect(own.memory().liveBytes).toBe(0);
  });
});
