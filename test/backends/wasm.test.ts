// The WASM backend: threads, plans, limits, errors, and addresses beyond 2 GiB.
import { describe, expect, it } from "vitest";
import { wasmBackend } from "../support/backends.ts";
import { BackendError, UsageError } from "../../src/core/errors.ts";
import { add } from "../../src/ops/add/index.ts";
import { linear } from "../../src/ops/linear/index.ts";
import { packWeight } from "../../src/ops/linear/pack.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import { openDevice } from "../../src/backends/index.ts";
import { WasmBackend } from "../../src/backends/wasm/index.ts";

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => ((i * 37) % 101) / 50 - 1);

describe("WasmBackend", () => {
  it("runs thousands of small commands on more threads than cores", async () => {
    const backend = await wasmBackend("simd", 5);
    const one = tensorFrom(backend, numbers(70_000).fill(1), [70, 1000]);
    let sum = zeros(backend, [70, 1000]);
    for (let i = 0; i < 2000; i++) {
      const next = add({ a: sum, b: one }, {}).y;
      sum.dispose();
      sum = next;
    }
    expect(new Set(sum.readNow())).toEqual(new Set([2000]));
  });

  it("replays a plan with what its inputs hold by then, and gives its memory back", async () => {
    const backend = await wasmBackend("relaxed", 2);
    const x = tensorFrom(backend, numbers(6), [2, 3]);
    const { liveBytes } = backend.memory();
    let y: Tensor | undefined;
    const plan = backend.capture(() => {
      y = scope(() => add({ a: add({ a: x, b: x }, {}).y, b: x }, {}).y);
      keep(y);
    });
    for (const factor of [1, 5]) {
      x.write(Float32Array.from(numbers(6), (value) => value * factor));
      plan.run();
      expect(Array.from(y!.readNow())).toEqual(
        numbers(6).map((value) => expect.closeTo(3 * value * factor, 5) as number),
      );
    }
    plan.dispose();
    y!.dispose();
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });

  it("computes the same beyond 2 GiB", async () => {
    const [low, high] = [await wasmBackend("relaxed", 2), await wasmBackend("relaxed", 2)];
    const reserved = high.allocate("i8", 2 ** 31 + 2 ** 20);
    expect(reserved.pointer).toBeGreaterThan(0);
    const [expected, actual] = [low, high].map((backend) => {
      const weight = packWeight(tensorFrom(backend, numbers(40 * 70), [40, 70]), "panels");
      const x = tensorFrom(backend, numbers(9 * 70), [9, 70]);
      const y = zeros(backend, [9, 40]);
      const plan = backend.capture(() => linear({ x, weight }, {}, { y }));
      plan.run();
      return Array.from(y.readNow());
    });
    expect(actual).toEqual(expected);
  });

  it("computes the same in one thread, with a memory that is not shared and grows", async () => {
    const shared = await wasmBackend("relaxed", 2);
    const alone = await WasmBackend.create({ threads: 2, isShared: false });
    expect(alone).toMatchObject({
      threads: 1,
      build: "relaxed",
      note: expect.stringMatching(/^one thread: .*isolated/),
    });
    expect(shared.note).toBeUndefined();
    expect(await WasmBackend.create({ threads: 1, isShared: false })).toMatchObject({ threads: 1, note: undefined });
    const run = (backend: WasmBackend): number[] => {
      const x = tensorFrom(backend, numbers(9 * 70), [9, 70]);
      // Growing leaves no old view of the memory behind.
      backend.allocate("i8", 2 ** 26);
      const weight = packWeight(tensorFrom(backend, numbers(40 * 70), [40, 70]), "int8");
      return Array.from(linear({ x, weight }, {}).y.readNow());
    };
    expect(run(alone)).toEqual(run(shared));
    alone.dispose();
  });

  it("says how much memory is missing", async () => {
    const backend = await wasmBackend("simd", 1);
    expect(() => backend.allocate("f32", 2 ** 30)).toThrow(BackendError);
    expect(() => backend.allocate("f32", 2 ** 30)).toThrow(
      /not enough memory: \d+ MiB are needed .* limit is 4096 MiB.*int8/,
    );
    expect(backend.allocate("f32", 10).count).toBe(10);
  });

  it("names what it does not know", async () => {
    const backend = await wasmBackend("simd", 1);
    expect(() => backend.dispatch("nothing", [])).toThrow(/there is no kernel "nothing". It has: .*add/);
    await expect(WasmBackend.create({ threads: 0 })).rejects.toThrow(
      "threads must be a whole number from 1 to 64, got 0",
    );
    await expect(openDevice("gpu" as "wasm")).rejects.toThrow(UsageError);
  });

  it("shares a device among those who ask for the same", async () => {
    expect(await openDevice("reference")).toBe(await openDevice("reference"));
    const [a, b] = [await openDevice("wasm", { threads: 1 }), await openDevice("wasm", { threads: 1 })];
    expect(a).toBe(b);
    a.dispose();
  });
});
