// The laws of lstm and gru: exact on a CPU, not within a tolerance.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { gru } from "../gru/index.ts";
import { lstm } from "../lstm/index.ts";
import type { CellName } from "./cells.ts";
import { GATES } from "./cells.ts";

const CELLS: readonly CellName[] = ["lstm", "gru"];

/** What a recurrence reads by token, `[batch][length]`, and what it reads once. */
interface Values {
  readonly cell: CellName;
  readonly batch: number;
  readonly length: number;
  readonly dHidden: number;
  readonly gates: number[];
  readonly starts: number[];
  readonly weight: number[];
  readonly bias: number[];
}

interface States {
  readonly h: number[];
  readonly c: number[];
}

function makeValues(cell: CellName, batch: number, length: number, dHidden: number): Values {
  const random = createRandom(5);
  const fill = (count: number, scale: number): number[] =>
    Array.from({ length: count }, () => Math.fround(scale * random.normal()));
  const width = GATES[cell] * dHidden;
  return {
    cell,
    batch,
    length,
    dHidden,
    gates: fill(batch * length * width, 1),
    starts: Array.from({ length: batch * length }, () => 0),
    weight: fill(width * dHidden, 1 / Math.sqrt(dHidden)),
    bias: fill(width, 0.3),
  };
}

/** Tokens [from, to) of the sequences listed. */
function part(values: Values, from: number, to: number, sequences = all(values.batch)): Values {
  const cut = (tokens: number[], columns: number): number[] =>
    sequences.flatMap((b) => tokens.slice((b * values.length + from) * columns, (b * values.length + to) * columns));
  const width = GATES[values.cell] * values.dHidden;
  const cuts = { gates: cut(values.gates, width), starts: cut(values.starts, 1) };
  return { ...values, ...cuts, batch: sequences.length, length: to - from };
}

/** Runs a cell from a state, zeros by default, which is written over. */
async function run(backend: Backend, values: Values, states?: States): Promise<{ y: number[] } & States> {
  const { cell, batch, length, dHidden } = values;
  const tensors = scope(() => {
    const gates = tensorFrom(backend, values.gates, [batch, length, GATES[cell] * dHidden]);
    const weight = tensorFrom(backend, values.weight, [GATES[cell] * dHidden, dHidden]);
    const state = (of: number[] = []): Tensor | undefined =>
      of.length > 0 ? tensorFrom(backend, of, [batch, dHidden]) : undefined;
    const [initialH, initialC] = [state(states?.h), state(states?.c)];
    const documentStarts = values.starts.includes(1)
      ? tensorFrom(backend, values.starts, [batch, length], "i32")
      : undefined;
    if (cell === "gru") {
      const bias = tensorFrom(backend, values.bias, [GATES[cell] * dHidden]);
      const into = initialH && { finalH: initialH };
      const { y, finalH } = gru({ gates, weight, bias, initialH, documentStarts }, {}, into);
      return { y, h: finalH };
    }
    const into = initialH && initialC && { finalH: initialH, finalC: initialC };
    const { y, finalH, finalC } = lstm({ gates, weight, initialH, initialC, documentStarts }, {}, into);
    return { y, h: finalH, c: finalC };
  });
  const read = async (tensor: Tensor | undefined): Promise<number[]> => {
    const data = tensor ? Array.from(await tensor.readNative()) : [];
    tensor?.dispose();
    return data;
  };
  return { y: await read(tensors.y), h: await read(tensors.h), c: await read(tensors.c) };
}

const all = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

async function cpus(): Promise<Backend[]> {
  return [reference, await wasmBackend("relaxed", 1), await wasmBackend("simd", 2), await wasmBackend("relaxed", 3)];
}

describe.each(CELLS)("%s", (cell) => {
  it("gives a sequence in pieces, and token by token, what it gives the whole", async () => {
    for (const dHidden of [6, 16, 200]) {
      const values = makeValues(cell, 1, 11, dHidden);
      values.starts[6] = 1;
      for (const backend of await cpus()) {
        const whole = await run(backend, values);
        for (const bounds of [
          [0, 4, 11],
          [0, 6, 7, 11],
          [0, ...all(11).map((t) => t + 1)],
        ]) {
          let states: States | undefined;
          const y: number[] = [];
          for (const [i, end] of bounds.slice(1).entries()) {
            const piece = await run(backend, part(values, bounds[i], end), states);
            y.push(...piece.y);
            states = piece;
          }
          expect({ y, h: states!.h, c: states!.c }).toEqual(whole);
        }
      }
    }
  });

  it("runs documents in one sequence as sequences of their own", async () => {
    const values = makeValues(cell, 1, 12, 10);
    const bounds = [0, 1, 5, 12];
    for (const bound of bounds.slice(0, -1)) values.starts[bound] = 1;
    for (const backend of await cpus()) {
      const noise = { h: Array<number>(10).fill(0.5), c: Array<number>(10).fill(0.5) };
      const whole = await run(backend, values, noise);
      const alone = [];
      for (const [i, end] of bounds.slice(1).entries()) {
        const one = part(values, bounds[i], end);
        one.starts.fill(0);
        alone.push(await run(backend, one));
      }
      expect(whole.y).toEqual(alone.flatMap(({ y }) => y));
      expect([whole.h, whole.c]).toEqual([alone.at(-1)!.h, alone.at(-1)!.c]);
    }
  });

  it("gives a sequence the same bits in any batch, and on any number of threads", async () => {
    for (const dHidden of [7, 16, 150]) {
      const values = makeValues(cell, 5, 4, dHidden);
      const [, one, simd, three] = await cpus();
      const whole = await run(one, values);
      expect(await run(three, values)).toEqual(whole);
      for (const [backend, expected] of [[one, whole] as const, [simd, await run(simd, values)] as const]) {
        const alone = [];
        for (const b of all(5)) alone.push((await run(backend, part(values, 0, 4, [b]))).y);
        expect(alone.flat()).toEqual(expected.y);
      }
    }
  });

  it("is causal: what comes later changes nothing before", async () => {
    const values = makeValues(cell, 1, 10, 9);
    const changed = { ...values, gates: values.gates.with(7 * 9 * GATES[cell], -2) };
    for (const backend of await cpus()) {
      const [before, after] = [(await run(backend, values)).y, (await run(backend, changed)).y];
      expect(after.slice(0, 7 * 9)).toEqual(before.slice(0, 7 * 9));
      expect(after.slice(7 * 9)).not.toEqual(before.slice(7 * 9));
    }
  });

  it("has gradients that do not depend on the number of threads", async () => {
    const gradients = [];
    for (const threads of [1, 2, 3]) {
      const backend = await wasmBackend("relaxed", threads);
      // Large enough for threads to share the units of a token.
      const { gates, weight, bias } = makeValues(cell, 1, 5, 190);
      const inputs = {
        gates: tensorFrom(backend, gates, [1, 5, GATES[cell] * 190]),
        weight: tensorFrom(backend, weight, [GATES[cell] * 190, 190]),
        bias: tensorFrom(backend, bias, [GATES[cell] * 190]),
        initialH: tensorFrom(backend, gates.slice(0, 190), [1, 190]),
      };
      for (const input of Object.values(inputs)) input.requiresGrad = true;
      const tape = new Tape();
      const { bias: _, ...ofLstm } = inputs;
      const { y } = tape.record(() => (cell === "gru" ? gru(inputs, {}) : lstm(ofLstm, {})));
      tape.backward(y, tensorFrom(backend, gates.slice(0, y.size), y.shape));
      gradients.push([inputs.gates, inputs.weight, inputs.initialH].map((input) => tape.gradOf(input)!.readNow()));
    }
    expect(gradients[1]).toEqual(gradients[0]);
    expect(gradients[2]).toEqual(gradients[0]);
  });

  it.skipIf(!hasGpu)("keeps the laws on a GPU, within what another order of sums allows", async () => {
    const backend = await gpuBackend();
    const values = makeValues(cell, 2, 9, 12);
    values.starts[4] = 1;
    const whole = await run(backend, values);
    const first = await run(backend, part(values, 0, 5));
    const second = await run(backend, part(values, 5, 9), first);
    const row = 5 * 12;
    const y = all(2).flatMap((b) => [
      ...first.y.slice(b * row, (b + 1) * row),
      ...second.y.slice(b * 4 * 12, (b + 1) * 4 * 12),
    ]);
    expectClose("y", y, whole.y, 1e-6);
    expectClose("h", second.h, whole.h, 1e-6);
    const one = await run(backend, part(values, 0, 9, [1]));
    expectClose("y of one", one.y, whole.y.slice(9 * 12), 1e-6);
  });
});
