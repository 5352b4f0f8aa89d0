// The allocator against a plain model: blocks never overlap, freed memory is used again, accounts add up.
import fc from "fast-check";
import { expect, it } from "vitest";
import { ALIGNMENT, Allocator } from "./allocator.ts";

it("never gives one byte to two blocks, and forgets nothing", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -20, max: 5000 }), { maxLength: 120 }), (steps) => {
      let end = 0;
      const allocator = new Allocator(100, (needed) => (end = Math.max(end, needed)));
      const blocks: { start: number; size: number }[] = [];
      for (const step of steps) {
        if (step < 0) {
          const [block] = blocks.splice(-step % Math.max(1, blocks.length), 1);
          if (block) allocator.free(block.start);
          continue;
        }
        const block = { start: allocator.allocate(step), size: Math.max(step, 1) };
        expect(block.start % ALIGNMENT).toBe(0);
        expect(block.start + block.size).toBeLessThanOrEqual(end);
        for (const other of blocks)
          expect(block.start >= other.start + other.size || other.start >= block.start + block.size).toBe(true);
        blocks.push(block);
      }
      const live = blocks.reduce((sum, { size }) => sum + Math.ceil(size / ALIGNMENT) * ALIGNMENT, 0);
      expect(allocator.liveBytes).toBe(live);
      for (const { start } of blocks) allocator.free(start);
      expect(allocator.liveBytes).toBe(0);
      const whole = end - 128;
      if (whole > 0) {
        const before = end;
        allocator.allocate(whole);
        expect(end).toBe(before);
      }
    }),
  );
});

it("notices what is freed twice", () => {
  const allocator = new Allocator(0, () => undefined);
  const block = allocator.allocate(10);
  allocator.free(block);
  expect(() => allocator.free(block)).toThrow(/not allocated/);
});

it("stays as it was when growing fails", () => {
  const allocator = new Allocator(0, (end) => {
    if (end > 1000) throw new Error("full");
  });
  const block = allocator.allocate(500);
  expect(() => allocator.allocate(5000)).toThrow("full");
  allocator.free(block);
  expect(allocator.allocate(900)).toBe(block);
});
