// Products on the WebGPU backend: every family against the reference, the three layouts, edges, views, splits, int8, f16.
import { beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { DType } from "../../core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, tensorFrom } from "../../tensor/tensor.ts";
import { linear } from "./index.ts";
import { createPackedWeight, gatherPackedRows, unpackWeight } from "./pack.ts";
import type { MatrixTile } from "./webgpu-matrix.ts";
import type { Along } from "./webgpu-product.ts";
import { operandOf } from "./webgpu-product.ts";
import type { PlainTile } from "./webgpu-tiles.ts";
import { multiply, multiplyAsMatrices, multiplyAsTiles, multiplyDirectly } from "./webgpu.ts";

/** Normal numbers that float16 holds exactly. */
function halves(seed: number, size: number): Float32Array {
  const random = createRandom(seed);
  const numbers = Float32Array.from({ length: size }, () => random.normal());
  const rounded = new Uint16Array(size);
  float32ToFloat16(numbers, rounded);
  float16ToFloat32(rounded, numbers);
  return numbers;
}

interface MatrixSpec {
  rows: number;
  columns: number;
  dtype: DType;
  /** Columns of memory around it. */
  extra: number;
}

/** A matrix of random numbers, a view of columns where `extra` says so. */
function matrix(backend: Backend, seed: number, { rows, columns, dtype, extra }: MatrixSpec): Tensor {
  const data = halves(seed, rows * columns);
  if (extra === 0) return tensorFrom(backend, data, [rows, columns], dtype);
  const [width, start] = [columns + extra, extra >> 1];
  const around = new Float32Array(rows * width).fill(NaN);
  for (let row = 0; row < rows; row++)
    around.set(data.subarray(row * columns, (row + 1) * columns), row * width + start);
  return tensorFrom(backend, around, [rows, width], dtype).columnsOf(start, start + columns);
}

interface Case {
  name: string;
  sizes: readonly [rows: number, columns: number, steps: number];
  a: DType;
  b: DType;
  y: "f32" | "f16";
  aAlong?: Along;
  bAlong?: Along;
  extra?: number;
  adds?: boolean;
  residual?: boolean;
  bias?: boolean;
  splits?: number;
}

/** What a product must be, in float64. */
function expectedOf({ sizes, aAlong, bAlong, adds, residual, bias }: Case): Float64Array {
  const [rows, columns, steps] = sizes;
  const [a, b, before, added, rest] = [
    halves(1, rows * steps),
    halves(2, steps * columns),
    halves(3, rows * columns),
    halves(4, columns),
    halves(5, rows * columns),
  ];
  const y = new Float64Array(rows * columns);
  for (let m = 0; m < rows; m++)
    for (let n = 0; n < columns; n++) {
      let sum = (adds ? before[m * columns + n] : 0) + (bias ? added[n] : 0) + (residual ? rest[m * columns + n] : 0);
      for (let k = 0; k < steps; k++)
        sum +=
          a[aAlong === "outer" ? k * rows + m : m * steps + k] *
          b[bAlong === "outer" ? k * columns + n : n * steps + k];
      y[m * columns + n] = sum;
    }
  return y;
}

async function checkProduct(
  backend: WebGpuBackend,
  test: Case,
  run: (product: Parameters<typeof multiply>[1], splits: number) => void,
): Promise<void> {
  const {
    sizes,
    a,
    b,
    y,
    aAlong = "steps",
    bAlong = "steps",
    extra = 0,
    adds = false,
    residual = false,
    bias = false,
    splits = 1,
  } = test;
  const [rows, columns, steps] = sizes;
  const shapeOf = (along: Along, outer: number) =>
    along === "steps" ? { rows: outer, columns: steps } : { rows: steps, columns: outer };
  const to = matrix(backend, 3, { rows, columns, dtype: y, extra });
  const product = {
    a: operandOf(matrix(backend, 1, { ...shapeOf(aAlong, rows), dtype: a, extra }), aAlong),
    b: operandOf(matrix(backend, 2, { ...shapeOf(bAlong, columns), dtype: b, extra }), bAlong),
    to: operandOf(to, "steps"),
    adds,
    bias: bias ? operandOf(tensorFrom(backend, halves(4, columns), [columns]), "steps") : undefined,
    residual: residual ? operandOf(matrix(backend, 5, { rows, columns, dtype: "f32", extra }), "steps") : undefined,
  };
  run(product, splits);
  expectClose(test.name, await to.read(), expectedOf(test), y === "f16" ? 1e-3 : 1e-5);
  if (extra === 0) return;
  const around = await to.base!.read();
  expect(Array.from({ length: rows }, (_, row) => around[row * (columns + extra)]).every(Number.isNaN)).toBe(true);
}

const LAYOUTS: readonly { aAlong: Along; bAlong: Along }[] = [
  { aAlong: "steps", bAlong: "steps" },
  { aAlong: "steps", bAlong: "outer" },
  { aAlong: "outer", bAlong: "outer" },
];

/** Few, for a software adapter takes seconds to compile each kernel for the first time. */
const CASES: readonly Case[] = [
  ...LAYOUTS.flatMap((layout): Case[] => [
    { ...layout, name: "edges of vectors", sizes: [72, 80, 40], a: "f16", b: "f16", y: "f16", bias: true },
    {
      ...layout,
      name: "edges of elements, views",
      sizes: [37, 67, 41],
      a: "f16",
      b: "f16",
      y: "f32",
      extra: 5,
      adds: true,
    },
  ]),
  {
    ...LAYOUTS[1],
    name: "f32 operand, wide views, residual",
    sizes: [40, 64, 48],
    a: "f32",
    b: "f16",
    y: "f16",
    extra: 16,
    residual: true,
  },
  {
    ...LAYOUTS[2],
    name: "f32 operand, split",
    sizes: [24, 40, 304],
    a: "f32",
    b: "f16",
    y: "f32",
    splits: 3,
    adds: true,
  },
];

describe.skipIf(!hasGpu)("families of kernels", () => {
  let backend: WebGpuBackend;
  beforeAll(async () => {
    backend = await gpuBackend();
  });

  const plainTile: PlainTile = {
    tileRows: 32,
    tileColumns: 32,
    tileSteps: 8,
    threadRows: 4,
    threadColumns: 4,
  };
  const matrixTile = {
    tileRows: 32,
    tileColumns: 32,
    tileSteps: 32,
    partRows: 16,
    partColumns: 16,
    slices: 1,
  } as const;

  for (const test of CASES) {
    const name = `a along ${test.aAlong}, b along ${test.bAlong}: ${test.name}`;
    it(`tiles, ${name}`, () =>
      checkProduct(backend, test, (product, splits) => multiplyAsTiles(backend, product, plainTile, splits)));
    it(`directly, ${name}`, () =>
      checkProduct(backend, test, (product, splits) => multiplyDirectly(backend, product, splits)));
    const ahead = test.adds ? 1 : 2;
    it(`matrices, ${ahead} ahead, ${name}`, () =>
      checkProduct(backend, test, (product, splits) =>
        multiplyAsMatrices(backend, product, { ...matrixTile, ahead }, splits, true),
      ));
  }

  const other: readonly (readonly [PlainTile | MatrixTile, string])[] = [
    [{ tileRows: 64, tileColumns: 32, tileSteps: 8, threadRows: 8, threadColumns: 8 }, "tiles"],
    [{ tileRows: 64, tileColumns: 64, tileSteps: 64, partRows: 32, partColumns: 16, slices: 1, ahead: 1 }, "matrices"],
    [{ tileRows: 32, tileColumns: 32, tileSteps: 64, partRows: 32, partColumns: 32, slices: 4, ahead: 2 }, "matrices"],
  ];
  it.each(other)("other sizes: %o", async (tile, family) => {
    const test: Case = { name: family, sizes: [72, 88, 136], a: "f16", b: "f16", y: "f32" };
    await checkProduct(backend, test, (product, splits) =>
      "slices" in tile
        ? multiplyAsMatrices(backend, product, tile, splits, true)
        : multiplyAsTiles(backend, product, tile, splits),
    );
  });

  it.each([1, 3])("vectors: %i rows", async (rows) => {
    const cases: Case[] = [
      { name: "f32", sizes: [rows, 67, 260], a: "f32", b: "f32", y: "f32", bias: true },
      { name: "f16", sizes: [rows, 80, 264], a: "f16", b: "f16", y: "f16" },
      { name: "f16 weights", sizes: [rows, 1030, 16], a: "f32", b: "f16", y: "f32" },
      { name: "odd", sizes: [rows, 5, 7], a: "f16", b: "f16", y: "f32", extra: 3 },
    ];
    for (const each of [backend, await gpuBackend({ without: ["subgroups"] })])
      for (const test of cases) await checkProduct(each, test, (product) => multiply(each, product));
  });
});

interface Run {
  rows: number;
  columns: number;
  outputs: number;
  x: DType;
  weight: DType | "int8";
  y: "f32" | "f16";
}

async function forward(backend: Backend, { rows, columns, outputs, x, weight, y }: Run): Promise<Float32Array> {
  const from = matrix(backend, 1, { rows, columns, dtype: x, extra: 0 });
  const format = weight === "int8" ? "int8" : "rows";
  const packed = createPackedWeight(backend, [outputs, columns], format, weight === "f16" ? "f16" : "f32");
  packed.writeRows(0, halves(2, outputs * columns));
  const bias = tensorFrom(backend, halves(3, outputs), [outputs]);
  return linear({ x: from, weight: packed.tensor, bias }, { dtype: y }).y.read();
}

describe.skipIf(!hasGpu)("linear on a GPU", () => {
  it.each([
    { rows: 1, columns: 50, outputs: 37, x: "f32", weight: "int8", y: "f32" },
    { rows: 3, columns: 64, outputs: 37, x: "f16", weight: "int8", y: "f32" },
    { rows: 40, columns: 50, outputs: 37, x: "f32", weight: "int8", y: "f32" },
    { rows: 40, columns: 64, outputs: 37, x: "f16", weight: "int8", y: "f16" },
    { rows: 40, columns: 64, outputs: 37, x: "f16", weight: "f16", y: "f32" },
    { rows: 40, columns: 64, outputs: 37, x: "f32", weight: "f16", y: "f16" },
    { rows: 40, columns: 63, outputs: 37, x: "f16", weight: "f32", y: "f16" },
  ] as Run[])("$rows x $columns x $outputs, x $x, weight $weight, y $y", async (run) => {
    const exact = { ...run, x: "f32", y: "f32", weight: run.weight === "int8" ? "int8" : "f32" } as const;
    const expected = await forward(reference, exact);
    const actual = await forward(await gpuBackend(), run);
    expectClose("y", actual, expected, run.y === "f16" ? 1e-3 : 1e-4);
  });

  it("int8 by matrices: bytes as halves, scales at the end", async () => {
    const backend = await gpuBackend();
    const [rows, columns, outputs] = [33, 50, 40];
    const run = { rows, columns, outputs, x: "f32", weight: "int8", y: "f32" } as const;
    const expected = await forward(reference, run);
    const packed = createPackedWeight(backend, [outputs, columns], "int8");
    packed.writeRows(0, halves(2, outputs * columns));
    const y = emptyTensor(backend, [rows, outputs]);
    const tile = {
      tileRows: 32,
      tileColumns: 32,
      tileSteps: 32,
      partRows: 16,
      partColumns: 16,
      slices: 1,
      ahead: 2,
    } as const;
    const product = {
      a: operandOf(matrix(backend, 1, { rows, columns, dtype: "f16", extra: 0 }), "steps"),
      b: operandOf(packed.tensor, "steps"),
      to: operandOf(y, "steps"),
      adds: false,
      bias: operandOf(tensorFrom(backend, halves(3, outputs), [outputs]), "steps"),
    };
    for (const splits of [1, 2]) {
      multiplyAsMatrices(backend, product, tile, splits, true);
      expectClose("y", await y.read(), expected, 1e-4);
    }
  });

  it.each([
    { rows: 70, columns: 300, outputs: 500 },
    { rows: 900, columns: 50, outputs: 40 },
    { rows: 3, columns: 70, outputs: 900 },
  ])(
    "tensors larger than a binding, $rows x $columns x $outputs: forward and gradients",
    async ({ rows, columns, outputs }) => {
      const results: Float32Array[][] = [];
      for (const backend of [reference, await gpuBackend({ maxBindingBytes: 1 << 16 })]) {
        const made = scope(() => {
          const x = matrix(backend, 1, { rows, columns, dtype: "f32", extra: 0 });
          const weight = matrix(backend, 2, { rows: outputs, columns, dtype: "f32", extra: 0 });
          const bias = tensorFrom(backend, halves(3, outputs), [outputs]);
          for (const each of [x, weight, bias]) each.requiresGrad = true;
          const tape = new Tape();
          const { y } = tape.record(() => linear({ x, weight, bias }, {}));
          tape.seed(y, tensorFrom(backend, halves(4, rows * outputs), [rows, outputs]));
          tape.run();
          return { y, x: tape.gradOf(x)!, weight: tape.gradOf(weight)!, bias: tape.gradOf(bias)! };
        });
        results.push(await Promise.all(Object.values(made).map((each) => each.read())));
      }
      for (const [i, expected] of results[0].entries()) expectClose(`result ${i}`, results[1][i], expected, 1e-5);
    },
  );

  it("int8 rows come back, by id and all, as the reference has them", async () => {
    const [rows, columns] = [19, 133];
    const all: Float32Array[] = [];
    const backend = await gpuBackend();
    for (const each of [reference, backend]) {
      const packed = createPackedWeight(each, [rows, columns], "int8");
      const data = halves(9, rows * columns);
      for (const [first, end] of [
        [7, 19],
        [0, 7],
      ])
        packed.writeRows(first, data.subarray(first * columns, end * columns));
      all.push(await unpackWeight(packed.tensor).read());
      if (each === reference) continue;
      const y = emptyTensor(backend, [2, 3, columns]);
      gatherPackedRows(tensorFrom(backend, [18, 0, 7, 19, -1, 7], [2, 3], "i32"), packed.tensor, y);
      const gathered = await y.read();
      const row = (id: number): Float32Array => all[0].subarray(id * columns, (id + 1) * columns);
      expect(gathered.subarray(0, columns)).toEqual(row(18));
      expect(gathered.subarray(columns, 2 * columns)).toEqual(row(0));
      expect(gathered.subarray(3 * columns, 5 * columns).every(Number.isNaN)).toBe(true);
      expect(gathered.subarray(5 * columns)).toEqual(row(7));
    }
    expect(all[1]).toEqual(all[0]);
  });
});
