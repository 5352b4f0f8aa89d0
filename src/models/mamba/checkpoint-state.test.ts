// Saved states: the same bits come back, whatever their file is called, and those of another model are refused.
import { beforeAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../../core/errors.ts";
import { Mamba } from "../../mamba.ts";
import type { MambaState } from "./state.ts";

const WHERE = ["state", "/some folder/a.state", "C:\\states\\b.safetensors", "../c", ""];

async function bitsOf(state: MambaState): Promise<number[][]> {
  return (await state.toArrays()).map(({ data }) => Array.from(new Uint32Array(Float32Array.from(data).buffer)));
}

function create(options: { dModel?: number; nLayer?: number; dState?: number; dConv?: number } = {}): Promise<Mamba> {
  return Mamba.create({ dModel: 24, nLayer: 2, ...options }, { threads: 1 });
}

describe("a saved state", () => {
  let mamba: Mamba;
  let state: MambaState;
  let bytes: Uint8Array;
  beforeAll(async () => {
    mamba = await create();
    const { logits, state: after } = mamba.forward([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    logits.dispose();
    state = after;
    bytes = await mamba.saveState(state);
  });

  it.each(WHERE)("comes back bit by bit from %j and continues as before", async (where) => {
    const loaded = await mamba.loadState(bytes, where);
    expect(loaded.batch).toBe(2);
    expect(await bitsOf(loaded)).toEqual(await bitsOf(state));
    const fork = state.fork();
    expect(await mamba.step([7, 8], loaded)).toEqual(await mamba.step([7, 8], fork));
    [loaded, fork].forEach((one) => one.dispose());
  });

  it.each(WHERE)("names %j in what is wrong", async (where) => {
    const error: unknown = await mamba.loadState(bytes.subarray(0, 100), where).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message.startsWith(where)).toBe(true);
  });

  it.each([{ dModel: 32 }, { nLayer: 1 }, { nLayer: 3 }, { dState: 8 }, { dConv: 3 }])(
    "is refused by a model with %j",
    async (options) => {
      const other = await create(options);
      const before = other.backend.memory().liveBytes;
      const error: unknown = await other.loadState(bytes, "saved/my.state").catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as Error).message).toMatch(/^saved\/my\.state: .*saved by another model\?$/);
      expect(other.backend.memory().liveBytes).toBe(before);
      other.dispose();
    },
  );
});
