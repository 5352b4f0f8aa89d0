// Tensors and views, scopes, and the tape's rules.
import { describe, expect, it } from "vitest";
import { reference as backend, wasmBackend } from "../support/backends.ts";
import { BackendError, ShapeError } from "../../src/core/errors.ts";
import { add } from "../../src/ops/add/index.ts";
import { siluGate } from "../../src/ops/silu-gate/index.ts";
import { Parameter } from "../../src/tensor/parameter.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tensorFrom, zeros } from "../../src/tensor/tensor.ts";

const counted = (shape: number[]): Tensor =>
  tensorFrom(
    backend,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i),
    shape,
  );

describe("Tensor", () => {
  it("shows columns and entries in place", () => {
    const x = counted([2, 3, 4]);
    const columns = x.columnsOf(1, 3);
    expect([columns.shape, columns.rowStride, Array.from(columns.readNow())]).toEqual([
      [2, 3, 2],
      4,
      [1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22],
    ]);
    columns.write(new Float64Array(12).fill(-1));
    expect(Array.from(x.readNow()).slice(0, 4)).toEqual([0, -1, -1, 3]);
    expect(Array.from(counted([3, 2, 2]).entries(1, 1).readNow())).toEqual([4, 5, 6, 7]);
    expect(columns.reshape([6, 2]).rowStride).toBe(4);
    expect(() => columns.reshape([3, 4])).toThrow(ShapeError);
    expect(() => x.columnsOf(2, 5)).toThrow("columnsOf: the range must lie within 0..4, got 2..5.");
    expect(() => x.entries(1, 2)).toThrow(ShapeError);
    expect(() => tensorFrom(backend, [1, 2], [3])).toThrow("[3] takes 3 elements, got 2");
  });

  it("refuses to be used after its memory was given back", () => {
    const x = counted([2]);
    const view = x.columnsOf(0, 1);
    x.dispose();
    x.dispose();
    expect(() => view.readNow()).toThrow(/given back/);
    expect(() => add({ a: x, b: x }, {})).toThrow(BackendError);
  });

  it("keeps devices apart", async () => {
    const other = tensorFrom(await wasmBackend("simd", 1), [1, 2], [2]);
    expect(() => add({ a: counted([2]), b: other }, {})).toThrow(/all inputs must be on one device/);
  });
});

describe("scope", () => {
  it("frees what it does not return, keeps what is kept, and passes results up", () => {
    let kept: Tensor | undefined;
    let inner: Tensor | undefined;
    const result = scope(() => {
      const { y } = scope(() => {
        inner = counted([2]);
        kept = keep(counted([2]));
        return { y: counted([2]), list: [1] };
      });
      expect(y.isDisposed).toBe(false);
      return y.columnsOf(0, 1);
    });
    expect([inner!.isDisposed, kept!.isDisposed, result.isDisposed]).toEqual([true, false, false]);
  });

  it("frees everything when its body throws, and refuses promises", () => {
    let inside: Tensor | undefined;
    const failing = (): void =>
      scope(() => {
        inside = counted([1]);
        throw new Error("stop");
      });
    expect(failing).toThrow("stop");
    expect(inside!.isDisposed).toBe(true);
    expect(() => scope(() => Promise.resolve(1))).toThrow(/synchronous/);
  });
});

describe("Tape", () => {
  it("adds up what several uses and views of a tensor contribute", () => {
    const x = counted([2, 4]);
    x.requiresGrad = true;
    const tape = new Tape();
    const y = tape.record(() => {
      const gated = siluGate({ x: x.columnsOf(0, 2), z: x.columnsOf(2, 4) }, {}).y;
      return add({ a: gated, b: x.columnsOf(0, 2) }, {}).y;
    });
    tape.backward(y, tensorFrom(backend, [1, 1, 1, 1], [2, 2]));
    const silu = (z: number): number => z / (1 + Math.exp(-z));
    const grad = tape.gradOf(x)!.readNow();
    expect([grad[0], grad[1]]).toEqual([expect.closeTo(1 + silu(2), 12), expect.closeTo(1 + silu(3), 12)]);
  });

  it("adds to a parameter's gradient until it is cleared, and records nothing without need", () => {
    const parameter = new Parameter([2]);
    expect(() => parameter.tensor).toThrow(/has no value yet/);
    parameter.assign(tensorFrom(backend, [1, 2], [2]));
    const run = (): void =>
      scope(() => {
        const tape = new Tape([parameter]);
        const y = tape.record(() => add({ a: parameter.tensor, b: parameter.tensor }, {}).y);
        tape.backward(y, tensorFrom(backend, [1, 10], [2]));
      });
    run();
    run();
    expect(Array.from(parameter.grad!.readNow())).toEqual([4, 40]);
    parameter.clearGrad();
    expect(Array.from(parameter.grad!.readNow())).toEqual([0, 0]);
    const plain = new Tape();
    const y = plain.record(() => add({ a: counted([2]), b: counted([2]) }, {}).y);
    expect(y.requiresGrad).toBe(false);
    expect(() => plain.backward(zeros(backend, [2]), 1)).toThrow(/a number seeds a scalar only/);
    expect(() => parameter.assign(counted([3]))).toThrow("the value must be [2], got [3]");
  });
});
