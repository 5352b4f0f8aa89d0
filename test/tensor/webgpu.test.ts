// Tensors, scopes and tapes over a GPU's memory: views, gradients that begin as promised zeros, memory given back.
import { beforeEach, describe, expect, it } from "vitest";
import type { WebGpuBackend, WebGpuStorage } from "../../src/backends/webgpu/index.ts";
import { BackendError } from "../../src/core/errors.ts";
import { add } from "../../src/ops/add/index.ts";
import { rmsNorm } from "../../src/ops/rms-norm/index.ts";
import { siluGate } from "../../src/ops/silu-gate/index.ts";
import { Parameter } from "../../src/tensor/parameter.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { copyInto, copyOf, emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import { gpuBackend, hasGpu, onGpu } from "../support/backends.ts";

const valuesOf = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNative());
const silu = (z: number): number => z / (1 + Math.exp(-z));

describe.skipIf(!hasGpu)(onGpu("tensors on WebGPU"), () => {
  let backend: WebGpuBackend;
  beforeEach(async () => {
    backend = await gpuBackend();
  });
  const counted = (shape: number[]): Tensor => {
    const size = shape.reduce((a, b) => a * b, 1);
    return tensorFrom(
      backend,
      Array.from({ length: size }, (_, i) => i),
      shape,
    );
  };

  it("show columns, rows and entries in place", async () => {
    const x = counted([2, 3, 4]);
    const columns = x.columnsOf(1, 3);
    expect(await valuesOf(columns)).toEqual([1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22]);
    expect(await valuesOf(columns.rowsOf(4, 2))).toEqual([17, 18, 21, 22]);
    expect(await valuesOf(x.entries(1, 1))).toEqual([12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
    expect(await valuesOf(columns.reshape([6, 2]).columnsOf(1, 2))).toEqual([2, 6, 10, 14, 18, 22]);
    columns.write(new Float64Array(12).fill(-1));
    expect((await valuesOf(x)).slice(0, 6)).toEqual([0, -1, -1, 3, 4, -1]);
    const into = new Float32Array(12);
    expect(await columns.read(into)).toBe(into);
    expect(into).toEqual(new Float32Array(12).fill(-1));
  });

  it("are copied on the device, views of columns row by row", async () => {
    const x = counted([3, 4]);
    expect(await valuesOf(copyOf(x.columnsOf(1, 3)))).toEqual([1, 2, 5, 6, 9, 10]);
    const y = zeros(backend, [3, 4]);
    copyInto(x.columnsOf(0, 2), y.columnsOf(2, 4));
    expect(await valuesOf(y)).toEqual([0, 0, 0, 1, 0, 0, 4, 5, 0, 0, 8, 9]);
    expect(() => copyInto(x.columnsOf(0, 3), y.columnsOf(0, 2))).toThrow(/rows of one length/);
  });

  it("refuse to be read at once, or after their memory was given back", async () => {
    const x = counted([4]);
    expect(() => x.readNow()).toThrow(BackendError);
    x.dispose();
    await expect(x.read()).rejects.toThrow(/given back/);
  });

  it("give all memory back with their scope", async () => {
    const y = scope(() => {
      const x = counted([300, 40]);
      return add({ a: x, b: add({ a: x, b: x }, {}).y }, {}).y;
    });
    expect((await valuesOf(y)).slice(0, 3)).toEqual([0, 3, 6]);
    expect(backend.memory().liveBytes).toBe((y.storage as WebGpuStorage).buffer.size);
    y.dispose();
    expect(() =>
      scope(() => {
        counted([5]);
        throw new Error("stop");
      }),
    ).toThrow("stop");
    expect(backend.memory().liveBytes).toBe(0);
  });

  it("add up the gradients of several uses and views, of one base and of several passes", async () => {
    const parameter = new Parameter([2, 4]);
    parameter.assign(tensorFrom(backend, [1, 2, 3, 4, 5, 6, 7, 8], [2, 4]));
    const pass = (): void =>
      scope(() => {
        const x = parameter.tensor;
        const tape = new Tape([parameter]);
        const y = tape.record(() => {
          const gated = siluGate({ x: x.columnsOf(0, 2), z: x.columnsOf(2, 4) }, {}).y;
          return add({ a: gated, b: x.columnsOf(0, 2) }, {}).y;
        });
        tape.backward(y, tensorFrom(backend, [1, 1, 1, 1], [2, 2]));
      });
    pass();
    const once = await valuesOf(parameter.grad!);
    expect([once[0], once[1]]).toEqual([expect.closeTo(1 + silu(3), 5), expect.closeTo(1 + silu(4), 5)]);
    pass();
    pass();
    const three = await valuesOf(parameter.grad!);
    three.forEach((value, i) => expect(value).toBeCloseTo(3 * once[i], 4));
    parameter.clearGrad();
    expect(await valuesOf(parameter.grad!)).toEqual(Array(8).fill(0));
    pass();
    expect(await valuesOf(parameter.grad!)).toEqual(once);
    parameter.dispose();
    expect(backend.memory().liveBytes).toBe(0);
  });

  it("leave zero the gradient of columns that nothing used", async () => {
    const parameter = new Parameter([3, 5]);
    parameter.assign(counted([3, 5]));
    scope(() => {
      const tape = new Tape([parameter]);
      const y = tape.record(() => add({ a: parameter.tensor.columnsOf(1, 3), b: counted([3, 2]) }, {}).y);
      tape.backward(y, counted([3, 2]));
    });
    expect(await valuesOf(parameter.grad!)).toEqual([0, 0, 1, 0, 0, 0, 2, 3, 0, 0, 0, 4, 5, 0, 0]);
  });

  it("take a seed that is a view of columns, or lies under one", async () => {
    const x = counted([2, 3]);
    x.requiresGrad = true;
    const tape = new Tape();
    const y = tape.record(() => add({ a: x, b: x }, {}).y);
    tape.backward(y.columnsOf(1, 3), counted([2, 4]).columnsOf(2, 4));
    expect(await valuesOf(tape.gradOf(x)!)).toEqual([0, 4, 6, 0, 12, 14]);
  });

  it("free the gradients of intermediates as soon as they were used", async () => {
    const size = 64 * 1024;
    const weight = new Parameter([64]);
    weight.assign(tensorFrom(backend, Array(64).fill(1), [64]));
    scope(() => {
      const x = emptyTensor(backend, [1024, 64]);
      x.write(new Float32Array(size).fill(0.5));
      const tape = new Tape([weight]);
      let y = x;
      tape.record(() => {
        for (let i = 0; i < 6; i++) y = rmsNorm({ x: y, weight: weight.tensor }, { eps: 1e-5 }).y;
      });
      const before = backend.memory();
      tape.backward(y, y);
      const { peakBytes } = backend.memory();
      // Beside the gradient of the output, that of one input at a time; and small sums.
      expect(peakBytes - before.liveBytes).toBeLessThan(2.6 * 4 * size);
    });
    await backend.finish();
    weight.dispose();
    expect(backend.memory().liveBytes).toBe(0);
  });
});
