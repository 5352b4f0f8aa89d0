// The laws of selectiveScan, as properties: exact, not within a tolerance.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { reference, wasmBackend } from "../../../test/support/backends.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { selectiveScan } from "./index.ts";

interface Sizes {
  batch: number;
  length: number;
  dInner: number;
  dState: number;
  groups: number;
}

/** What a scan reads by token, row-major `[batch][length][columns]`, and what it reads once. */
interface Values {
  readonly sizes: Sizes;
  readonly tokens: Record<"x" | "dtRaw" | "z" | "B" | "C" | "documentStarts", number[]>;
  readonly A: number[];
  readonly D: number[];
}

const columnsOf = ({ dInner, dState, groups }: Sizes, name: string): number =>
  name === "documentStarts" ? 1 : name === "B" || name === "C" ? groups * dState : dInner;

function makeValues(sizes: Sizes, starts = 0): Values {
  const random = createRandom(11);
  const { batch, length, dInner, dState } = sizes;
  const fill = (count: number, element = () => random.normal()) =>
    Array.from({ length: count }, () => Math.fround(element()));
  const tokens = (name: string, element?: () => number) => fill(batch * length * columnsOf(sizes, name), element);
  return {
    sizes,
    tokens: {
      x: tokens("x"),
      dtRaw: tokens("dtRaw"),
      z: tokens("z"),
      B: tokens("B"),
      C: tokens("C"),
      documentStarts: tokens("documentStarts", () => (random.uniform() < starts ? 1 : 0)),
    },
    A: fill(dInner * dState, () => -3 * random.uniform()),
    D: fill(dInner),
  };
}

/** Tokens [from, to) of the sequences listed. */
function part({ sizes, tokens, A, D }: Values, from: number, to: number, sequences: readonly number[]): Values {
  const cut = (name: keyof Values["tokens"]): number[] => {
    const columns = columnsOf(sizes, name);
    return sequences.flatMap((b) =>
      tokens[name].slice((b * sizes.length + from) * columns, (b * sizes.length + to) * columns),
    );
  };
  const [x, dtRaw, z, B, C, documentStarts] = (["x", "dtRaw", "z", "B", "C", "documentStarts"] as const).map(cut);
  return {
    sizes: { ...sizes, batch: sequences.length, length: to - from },
    tokens: { x, dtRaw, z, B, C, documentStarts },
    A,
    D,
  };
}

/** Runs the op; y and, written over `state` if that is given, the final state. */
function scan(backend: Backend, { sizes, tokens, A, D }: Values, state?: Tensor): { y: number[]; state: number[] } {
  const { batch, length, dInner, dState, groups } = sizes;
  return scope(() => {
    const token = (name: "x" | "dtRaw" | "z" | "B" | "C") =>
      tensorFrom(backend, tokens[name], [batch, length, columnsOf(sizes, name)]);
    const inputs = {
      x: token("x"),
      dtRaw: token("dtRaw"),
      z: token("z"),
      B: token("B"),
      C: token("C"),
      A: tensorFrom(backend, A, [dInner, dState]),
      D: tensorFrom(backend, D, [dInner]),
      initialState: state,
      documentStarts: tokens.documentStarts.includes(1)
        ? tensorFrom(backend, tokens.documentStarts, [batch, length], "i32")
        : undefined,
    };
    const { y, finalState } = selectiveScan(inputs, { groups }, state && { finalState: state });
    return { y: Array.from(y.readNow()), state: Array.from(finalState.readNow()) };
  });
}

const all = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const zeroState = (backend: Backend, { batch, dInner, dState }: Sizes): Tensor =>
  tensorFrom(backend, new Float32Array(batch * dInner * dState), [batch, dInner, dState]);

const backends = async (): Promise<Backend[]> => [
  await wasmBackend("relaxed", 1),
  await wasmBackend("simd", 2),
  await wasmBackend("relaxed", 3),
];
const dState = fc.constantFrom(1, 4, 7, 16, 24, 35);
const dInner = fc.constantFrom(1, 3, 4, 6, 21, 70);

it("scan(a ++ b) = scan(a), then scan(b) from its state: whole, in pieces and step by step, written over in place", async () => {
  const devices = await backends();
  const pieces = fc.array(fc.constantFrom(1, 1, 2, 3, 31, 64, 65, 100), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(pieces, dState, dInner, fc.boolean(), (lengths, states, channels, hasStarts) => {
      const length = lengths.reduce((sum, piece) => sum + piece, 0);
      const values = makeValues({ batch: 1, length, dInner: channels, dState: states, groups: 1 }, hasStarts ? 0.1 : 0);
      for (const backend of devices) {
        const whole = scan(backend, values);
        const state = zeroState(backend, values.sizes);
        let at = 0;
        const y = lengths.flatMap((piece) => scan(backend, part(values, at, (at += piece), [0]), state).y);
        expect(y).toEqual(whole.y);
        expect(Array.from(state.readNow())).toEqual(whole.state);
        state.dispose();
      }
    }),
    { numRuns: 40 },
  );
});

it("decodes 16 states step by step as it prefills", async () => {
  const values = makeValues({ batch: 2, length: 40, dInner: 42, dState: 16, groups: 2 }, 0.1);
  for (const backend of await backends()) {
    const whole = scan(backend, values);
    const state = zeroState(backend, values.sizes);
    const steps = all(40).map((t) => scan(backend, part(values, t, t + 1, [0, 1]), state).y);
    expect(all(2).flatMap((b) => steps.flatMap((y) => y.slice(b * 42, (b + 1) * 42)))).toEqual(whole.y);
    expect(Array.from(state.readNow())).toEqual(whole.state);
  }
});

it("gives a sequence the same bits in any batch, and on any number of threads", async () => {
  const devices = await backends();
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 90 }), dState, fc.constantFrom(1, 2, 3), (length, states, groups) => {
      const values = makeValues({ batch: 3, length, dInner: 12 * groups, dState: states, groups }, 0.05);
      const [one, simd, three] = devices.map((backend) => scan(backend, values));
      expect(three).toEqual(one);
      for (const [i, batched] of [one, simd].entries()) {
        const alone = [2, 0, 1].map((b) => scan(devices[i], part(values, 0, length, [b])).y);
        expect([alone[1], alone[2], alone[0]].flat()).toEqual(batched.y);
      }
    }),
    { numRuns: 25 },
  );
});

it("is causal: what comes later changes nothing before", async () => {
  const values = makeValues({ batch: 1, length: 100, dInner: 8, dState: 16, groups: 1 });
  const changed = makeValues({ batch: 1, length: 100, dInner: 8, dState: 16, groups: 1 });
  for (const name of ["x", "dtRaw", "z", "B", "C"] as const)
    changed.tokens[name].fill(0.75, 70 * columnsOf(values.sizes, name));
  for (const backend of [reference, ...(await backends())]) {
    const [before, after] = [scan(backend, values).y, scan(backend, changed).y];
    expect(after.slice(0, 70 * 8)).toEqual(before.slice(0, 70 * 8));
    expect(after.slice(70 * 8)).not.toEqual(before.slice(70 * 8));
  }
});

it("runs documents in one sequence as sequences of their own", async () => {
  const values = makeValues({ batch: 1, length: 150, dInner: 5, dState: 16, groups: 1 });
  const bounds = [0, 1, 40, 64, 130, 150];
  for (const bound of bounds.slice(1, -1)) values.tokens.documentStarts[bound] = 1;
  for (const backend of await backends()) {
    const whole = scan(backend, values);
    const alone = bounds.slice(1).map((end, i) => {
      const one = part(values, bounds[i], end, [0]);
      one.tokens.documentStarts.fill(0);
      return scan(backend, one);
    });
    expect(whole.y).toEqual(alone.flatMap(({ y }) => y));
    expect(whole.state).toEqual(alone.at(-1)!.state);
  }
});

it("has gradients that do not depend on the number of threads", async () => {
  const sizes = { batch: 1, length: 130, dInner: 70, dState: 16, groups: 1 };
  const { tokens, A } = makeValues(sizes);
  const [one, , three] = await backends();
  const gradients = [one, three].map((backend) =>
    scope(() => {
      const token = (name: "x" | "dtRaw" | "B" | "C") =>
        tensorFrom(backend, tokens[name], [1, 130, columnsOf(sizes, name)]);
      const inputs = {
        x: token("x"),
        dtRaw: token("dtRaw"),
        B: token("B"),
        C: token("C"),
        A: tensorFrom(backend, A, [70, 16]),
      };
      for (const input of Object.values(inputs)) input.requiresGrad = true;
      const tape = new Tape();
      const { y } = tape.record(() => selectiveScan(inputs, {}));
      tape.backward(y, token("x"));
      return Object.values(inputs).map((input) => Array.from(tape.gradOf(input)!.readNow()));
    }),
  );
  expect(gradients[1]).toEqual(gradients[0]);
});

it("trains without ever holding [batch, length, dInner, dState]", async () => {
  const backend = await wasmBackend("simd", 2);
  const [length, dInner, dState] = [4096, 128, 32];
  scope(() => {
    const make = (shape: number[], value: number): Tensor => {
      const tensor = tensorFrom(backend, new Float32Array(shape.reduce((a, b) => a * b)).fill(value), shape);
      tensor.requiresGrad = true;
      return tensor;
    };
    const x = make([1, length, dInner], 0.5);
    const dtRaw = make([1, length, dInner], 0.1);
    const [B, C] = [make([1, length, dState], 0.2), make([1, length, dState], 0.3)];
    const A = make([dInner, dState], -1);
    const before = backend.memory().liveBytes;
    const tape = new Tape();
    const { y } = tape.record(() => selectiveScan({ x, dtRaw, A, B, C }, {}));
    tape.backward(y, x);
    // y, its gradient and those of x and dtRaw; the chunk starts; B's and C's gradients, and at most 16 partial sums of each.
    const activation = 4 * length * dInner;
    const states = activation * dState;
    const { peakBytes } = backend.memory();
    expect(peakBytes - before).toBeLessThan(4 * activation + states / 64 + 17 * 4 * length * 2 * dState + 2 ** 19);
    expect(peakBytes - before).toBeLessThan(states / 2);
  });
});
