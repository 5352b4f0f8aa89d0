// advanceLengths on every backend, and inside a plan that is replayed.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { advanceLengths } from "./index.ts";

it("adds in place, forwards and backwards", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend(), ...gpus]) {
    const lengths = tensorFrom(backend, [0, 5, 100_000], [3], "i32");
    advanceLengths({ lengths }, { by: 7 });
    expect(Array.from(await lengths.readNative())).toEqual([7, 12, 100_007]);
    advanceLengths({ lengths }, { by: -2 });
    expect(Array.from(await lengths.readNative())).toEqual([5, 10, 100_005]);
  }
});

it("counts at each run of a plan", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [await wasmBackend(), ...gpus]) {
    const lengths = tensorFrom(backend, [1, 2], [2], "i32");
    const plan = backend.capture(() => advanceLengths({ lengths }, { by: 1 }));
    for (let run = 0; run < 3; run++) plan.run();
    expect(Array.from(await lengths.readNative())).toEqual([4, 5]);
    plan.dispose();
  }
});

it("takes whole numbers only", () => {
  expect(() => advanceLengths({ lengths: zeros(reference, [2]) }, { by: 1 })).toThrow(
    "advanceLengths: lengths must be i32, got f32.",
  );
});
