// routeExperts against the reference and central differences, its ties, and what balance means.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { OpCase } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { RouteExpertsOptions } from "./index.ts";
import { routeExperts } from "./index.ts";

const CASES: OpCase<RouteExpertsOptions>[] = [
  { name: "one of 4", inputs: { logits: { shape: [2, 5, 4] } }, options: { topK: 1 } },
  { name: "2 of 7, a view", inputs: { logits: { shape: [3, 7, 7], extraColumns: 3 } }, options: { topK: 2 } },
  { name: "all of 3", inputs: { logits: { shape: [1, 4, 3] } }, options: { topK: 3 } },
  { name: "one of one", inputs: { logits: { shape: [2, 1] } }, options: { topK: 1 } },
  { name: "2 of 40, many tokens", inputs: { logits: { shape: [1, 150, 40] } }, options: { topK: 2 } },
];

testOp(routeExperts, [
  ...CASES,
  { name: "gates alone", inputs: { logits: { shape: [70, 8] } }, options: { topK: 1 }, unused: ["balance"] },
  { name: "balance alone", inputs: { logits: { shape: [70, 8] } }, options: { topK: 2 }, unused: ["gates"] },
]);

testOpOnGpu(routeExperts, CASES, { bindingBytes: 16384 });

async function backends(): Promise<Backend[]> {
  return [reference, await wasmBackend(), ...(hasGpu ? [await gpuBackend()] : [])];
}

describe("routeExperts", () => {
  it("takes the lower index where logits tie", async () => {
    for (const backend of await backends()) {
      const logits = tensorFrom(backend, [1, 3, 3, 3, 0, 0, 0, 0], [2, 4]);
      const { choices } = routeExperts({ logits }, { topK: 2 });
      expect(Array.from(await choices.readNative())).toEqual([1, 2, 0, 1]);
    }
  });

  it("has a balance of 1 when all is even, and of the number of experts when one takes all", async () => {
    for (const backend of await backends()) {
      const balanceOf = async (of: (token: number, expert: number) => number): Promise<number> => {
        const values = Array.from({ length: 8 * 4 }, (_, i) => of(Math.floor(i / 4), i % 4));
        const { balance } = routeExperts({ logits: tensorFrom(backend, values, [8, 4]) }, { topK: 1 });
        return (await balance.readNative())[0];
      };
      expect(await balanceOf((token, expert) => (token % 4 === expert ? 30 : 0))).toBeCloseTo(1, 5);
      expect(await balanceOf((_, expert) => (expert === 2 ? 30 : 0))).toBeCloseTo(4, 5);
    }
  });

  it("says what is wrong", () => {
    expect(() => routeExperts({ logits: zeros(reference, [2, 4]) }, { topK: 5 })).toThrow(
      "routeExperts: topK must be a whole number from 1 to the 4 experts, got 5.",
    );
    expect(() => routeExperts({ logits: zeros(reference, [4]) }, { topK: 1 })).toThrow("one token or more, got [4]");
    expect(() => routeExperts({ logits: zeros(reference, [2, 4], "f16") }, { topK: 1 })).toThrow(
      "must be f32, got f16",
    );
  });
});
