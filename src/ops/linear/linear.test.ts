// linear against the reference, its packed formats, and the law that a row's bits depend on nothing but the row.
import { assert, boolean, constantFrom, integer, nat, property, record } from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose, worstError } from "../../../test/support/compare.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Format, Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, tensorFrom } from "../../tensor/tensor.ts";
import { linear } from "./index.ts";
import { createPackedWeight, gatherPackedRows, packWeight, unpackWeight } from "./pack.ts";

const BUILDS = ["simd", "relaxed"] as const;
const FORMATS: readonly Format[] = ["rows", "panels", "int8"];
const ROWS = [1, 2, 3, 4, 5, 7, 16, 33, 130];
const INPUTS = [1, 3, 4, 16, 31, 48, 64, 129, 512, 777];
const OUTPUTS = [1, 3, 5, 12, 13, 80, 257];

const inputs = (rows: number, columns: number, outputs: number, extraColumns?: number) => ({
  x: { shape: [rows, columns], ...(extraColumns === undefined ? {} : { extraColumns }) },
  weight: { shape: [outputs, columns] },
});
const cases = [
  { name: "[2, 3, 5] x [4, 5]", inputs: { x: { shape: [2, 3, 5] }, weight: { shape: [4, 5] }, bias: { shape: [4] } } },
  { name: "one row", inputs: { ...inputs(1, 129, 13), bias: { shape: [13] } } },
  { name: "one input, one output", inputs: inputs(7, 1, 1) },
  { name: "x a view of columns", inputs: { ...inputs(33, 48, 80, 16), bias: { shape: [80] } } },
  { name: "weight a view of columns", inputs: { ...inputs(9, 20, 11), weight: { shape: [11, 20], extraColumns: 3 } } },
].map((each) => ({ ...each, options: {} }));

testOp(linear, cases, { forward: 2e-6, gradient: 1e-5 });

/** Normal numbers in float32. */
function normal(seed: number, size: number): Float32Array {
  const random = createRandom(seed);
  return Float32Array.from({ length: size }, () => random.normal());
}

/** x as a view in the middle of a wider tensor. */
function viewOf(backend: Backend, data: Float32Array, rows: number, columns: number): Tensor {
  const wide = emptyTensor(backend, [rows, columns + 5]);
  wide.write(new Float32Array(wide.size).fill(NaN));
  const view = wide.columnsOf(2, columns + 2);
  view.write(data);
  return view;
}

interface Product {
  rows: number;
  columns: number;
  outputs: number;
  format: Format;
  withBias: boolean;
}

/** y of one product; the same numbers on every backend. */
function multiply(backend: Backend, { rows, columns, outputs, format, withBias }: Product): Float32Array {
  return scope(() => {
    const x = viewOf(backend, normal(1, rows * columns), rows, columns);
    const weight = packWeight(tensorFrom(backend, normal(2, outputs * columns), [outputs, columns]), format);
    const bias = withBias ? tensorFrom(backend, normal(3, outputs), [outputs]) : undefined;
    return Float32Array.from(linear({ x, weight, bias }, {}).y.readNow());
  });
}

const bitsOf = (values: Float32Array): Int32Array => new Int32Array(values.buffer, values.byteOffset, values.length);

describe("every shape", () => {
  const backends = new Map<string, Backend>();
  beforeAll(async () => {
    for (const build of BUILDS) backends.set(build, await wasmBackend(build, 2));
  });
  for (const columns of INPUTS)
    it(`${columns} inputs: rows and panels = reference, with the same bits; int8 = its arithmetic in TypeScript, bit by bit`, () => {
      for (const rows of ROWS)
        for (const outputs of OUTPUTS) {
          const product = { rows, columns, outputs, withBias: (rows + outputs) % 2 === 0 };
          const name = `${rows} x ${columns} x ${outputs}`;
          const expected = multiply(reference, { ...product, format: "rows" });
          const exact = rows * outputs <= 700 ? multiply(reference, { ...product, format: "int8" }) : undefined;
          for (const [build, backend] of backends) {
            const plain = multiply(backend, { ...product, format: "rows" });
            expectClose(`${build} ${name}`, plain, expected, 2e-6);
            const panels = multiply(backend, { ...product, format: "panels" });
            expect(
              Buffer.compare(Buffer.from(panels.buffer), Buffer.from(plain.buffer)),
              `${build} ${name} panels`,
            ).toBe(0);
            const int8 = exact && multiply(backend, { ...product, format: "int8" });
            expect(worstError(int8 ?? [], exact ?? []), `${build} ${name} int8`).toBe(0);
          }
        }
    });
});

describe("a row of y has the same bits", () => {
  const shapes = record({
    rows: integer({ min: 1, max: 40 }),
    columns: integer({ min: 1, max: 600 }),
    outputs: integer({ min: 1, max: 60 }),
    format: constantFrom(...FORMATS),
    withBias: boolean(),
    from: nat(),
    count: nat(),
  });

  it.each(BUILDS)("however many rows are computed together (%s)", async (build) => {
    const backend = await wasmBackend(build, 2);
    assert(
      property(shapes, ({ from, count, ...product }) => {
        const first = from % product.rows;
        const rows = 1 + (count % (product.rows - first));
        scope(() => {
          const data = normal(1, product.rows * product.columns);
          const x = tensorFrom(backend, data, [product.rows, product.columns]);
          const weight = packWeight(
            tensorFrom(backend, normal(2, product.outputs * product.columns), [product.outputs, product.columns]),
            product.format,
          );
          const whole = bitsOf(linear({ x, weight }, {}).y.readNow() as Float32Array);
          const part = bitsOf(linear({ x: x.entries(first, rows), weight }, {}).y.readNow() as Float32Array);
          expect(part).toEqual(whole.slice(first * product.outputs, (first + rows) * product.outputs));
        });
      }),
      { numRuns: 150, seed: 5 },
    );
  });

  it.each(BUILDS)("for 1, 2 and 4 threads, forward and backward (%s)", async (build) => {
    const results: string[] = [];
    for (const threads of [1, 2, 4]) {
      const backend = await wasmBackend(build, threads);
      const outputs = FORMATS.map((format) =>
        multiply(backend, { rows: 130, columns: 512, outputs: 257, format, withBias: true }),
      );
      const vectors = FORMATS.map((format) =>
        multiply(backend, { rows: 1, columns: 777, outputs: 1000, format, withBias: true }),
      );
      results.push(
        [...outputs, ...vectors, ...gradients(backend, 600, 70, 90)].map((each) => bitsOf(each).join()).join(";"),
      );
    }
    expect(new Set(results).size).toBe(1);
  });

  it("with int8 in both builds", async () => {
    const results: string[] = [];
    for (const build of BUILDS) {
      const product = { rows: 33, columns: 777, outputs: 257, format: "int8", withBias: true } as const;
      results.push(bitsOf(multiply(await wasmBackend(build, 2), product)).join());
    }
    expect(results[0]).toBe(results[1]);
  });
});

function gradients(backend: Backend, rows: number, columns: number, outputs: number): Float32Array[] {
  return scope(() => {
    const x = tensorFrom(backend, normal(1, rows * columns), [rows, columns]);
    const weight = tensorFrom(backend, normal(2, outputs * columns), [outputs, columns]);
    const bias = tensorFrom(backend, normal(3, outputs), [outputs]);
    for (const each of [x, weight, bias]) each.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => linear({ x, weight, bias }, {}));
    tape.seed(y, tensorFrom(backend, normal(4, rows * outputs), [rows, outputs]));
    tape.run();
    return [x, weight, bias].map((each) => tape.gradOf(each)!.readNow() as Float32Array);
  });
}

it.each([
  [300, 270, 290],
  [20000, 5, 9],
  [3, 700, 1],
])("gradients over many blocks, %i x %i x %i: within 1e-5 of the reference", async (rows, columns, outputs) => {
  const expected = gradients(reference, rows, columns, outputs);
  expect(expected.length).toBe(3);
  for (const build of BUILDS)
    for (const [i, actual] of gradients(await wasmBackend(build), rows, columns, outputs).entries())
      expectClose(["grad.x", "grad.weight", "grad.bias"][i], actual, expected[i], 1e-5);
});

describe("packed weights", () => {
  it.each(["panels", "int8"] as const)(
    "%s: the same bytes in pieces of any size and order as at once",
    async (format) => {
      const [rows, columns] = [37, 130];
      const data = normal(7, rows * columns);
      for (const backend of [await wasmBackend("relaxed", 2), await wasmBackend("simd", 1), reference]) {
        const whole = createPackedWeight(backend, [rows, columns], format);
        whole.writeRows(0, data);
        const pieces = createPackedWeight(backend, [rows, columns], format);
        for (const [from, to] of [
          [30, 37],
          [0, 5],
          [5, 6],
          [6, 30],
        ])
          pieces.writeRows(from, data.subarray(from * columns, to * columns));
        const read = ({ tensor }: { tensor: Tensor }) => backend.readNow(tensor.storage, 0, tensor.storage.count);
        expect(read(pieces)).toEqual(read(whole));
      }
    },
  );

  it("int8: the kernel and the reference pack the same bytes", async () => {
    const data = normal(8, 21 * 300).map((value, i) => (i % 900 < 300 ? value ** 5 : value));
    const pack = (backend: Backend): ArrayLike<number> => {
      const { storage } = packWeight(tensorFrom(backend, data, [21, 300]), "int8");
      return Array.from(backend.readNow(storage, 0, storage.count));
    };
    for (const build of BUILDS) expect(pack(await wasmBackend(build))).toEqual(pack(reference));
  });

  it.each(["panels", "int8"] as const)("%s: rows come back, by id and all", async (format) => {
    const data = normal(9, 19 * 133);
    const expected = unpackWeight(packWeight(tensorFrom(reference, data, [19, 133]), format)).readNow();
    for (const build of BUILDS) {
      const backend = await wasmBackend(build);
      const weight = packWeight(tensorFrom(backend, data, [19, 133]), format);
      expect(Array.from(unpackWeight(weight).readNow())).toEqual(Array.from(expected));
      const ids = tensorFrom(backend, [18, 0, 7, 19, -1, 7], [2, 3], "i32");
      const y = emptyTensor(backend, [2, 3, 133]);
      gatherPackedRows(ids, weight, y);
      const rows = [18, 0, 7].flatMap((id) => Array.from(expected.slice(id * 133, (id + 1) * 133)));
      const all = Array.from(y.readNow());
      expect(all.slice(0, 3 * 133)).toEqual(rows);
      expect(all.slice(3 * 133, 5 * 133).every(Number.isNaN)).toBe(true);
      expect(all.slice(5 * 133)).toEqual(Array.from(expected.slice(7 * 133, 8 * 133)));
    }
  });

  it("int8 costs 0.7 % of the root mean square of y for normal x and weights", () => {
    const product = { rows: 16, columns: 768, outputs: 256, withBias: false };
    const plain = multiply(reference, { ...product, format: "rows" });
    const int8 = multiply(reference, { ...product, format: "int8" });
    const power = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
    const loss = power(int8.map((value, i) => value - plain[i])) / power(plain);
    expect(loss).toBeGreaterThan(0.005);
    expect(loss).toBeLessThan(0.009);
  });

  it("int8: no overflow for weights and x of one sign and size; NaN and zeros pass", async () => {
    for (const build of BUILDS) {
      const backend = await wasmBackend(build);
      const weight = packWeight(tensorFrom(backend, new Float32Array(8 * 3000).fill(-1), [8, 3000]), "int8");
      const y = linear(
        { x: tensorFrom(backend, new Float32Array(2 * 3000).fill(1), [2, 3000]), weight },
        {},
      ).y.readNow();
      expectClose("sums of ones", y, new Float32Array(16).fill(-3000), 1e-6);
      const x = new Float32Array(3 * 3000);
      x[3100] = NaN;
      const rows = linear({ x: tensorFrom(backend, x, [3, 3000]), weight }, {}).y.readNow();
      expect([rows[0], rows[16]]).toEqual([0, 0]);
      expect(rows[8]).toBeNaN();
    }
  });
});

describe("errors", () => {
  const x = tensorFrom(reference, [1, 2, 3], [1, 3]);
  it("names the shapes", () => {
    expect(() => linear({ x, weight: tensorFrom(reference, [1, 2], [1, 2]) }, {})).toThrow(
      "linear: x must be [..., inputs] and weight [outputs, inputs], got [1, 3] and [1, 2].",
    );
    const weight = tensorFrom(reference, [1, 2, 3], [1, 3]);
    expect(() => linear({ x, weight, bias: tensorFrom(reference, [1, 2], [2]) }, {})).toThrow(
      "bias must be [outputs] = [1], got [2]",
    );
    expect(() => createPackedWeight(reference, [3], "int8")).toThrow("must be [rows, columns]");
  });

  it("a packed weight passes no gradients", () => {
    const plain = tensorFrom(reference, [1, 2, 3], [1, 3]);
    const weight = packWeight(plain, "int8");
    const tape = new Tape();
    x.requiresGrad = true;
    const { y } = tape.record(() => linear({ x, weight }, {}));
    expect(() => tape.backward(y)).toThrow("passes no gradients");
  });
});
