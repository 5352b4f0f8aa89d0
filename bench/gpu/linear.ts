// Cases of linear: the products of mamba-130m and 4096³, forward and backward; and all sizes of tiles side by side, from
// which webgpu-choice.ts takes its own.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { createPackedWeight } from "../../src/ops/linear/pack.ts";
import type { MatrixTile } from "../../src/ops/linear/webgpu-matrix.ts";
import { isEvenTile, matrixBytes } from "../../src/ops/linear/webgpu-matrix.ts";
import type { Along, Product } from "../../src/ops/linear/webgpu-product.ts";
import { operandOf } from "../../src/ops/linear/webgpu-product.ts";
import type { PlainTile } from "../../src/ops/linear/webgpu-tiles.ts";
import type { VectorTile } from "../../src/ops/linear/webgpu.ts";
import { multiply, multiplyAsMatrices, multiplyAsTiles, vectors } from "../../src/ops/linear/webgpu.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeOnGpu } from "./case.ts";

/** Which product of a layer: forward, or the gradient of x or of the weight. */
type Layout = "NT" | "NN" | "TN";

const ALONG: Record<Layout, readonly [a: Along, b: Along]> = {
  NT: ["steps", "steps"],
  NN: ["steps", "outer"],
  TN: ["outer", "outer"],
};

interface ProductSpec {
  readonly rows: number;
  readonly columns: number;
  readonly steps: number;
  readonly layout: Layout;
  readonly type: "f32" | "f16";
  readonly y: "f32" | "f16";
}

interface Made {
  readonly product: Product;
  readonly tensors: readonly Tensor[];
}

const PIECE = 1 << 20;

/** Element i of a matrix: small numbers without a pattern that products would follow, exact in float16. */
function valueAt(seed: number, i: number): number {
  return (((Math.imul(i + seed, 0x9e3779b1) >>> 16) % 33) - 16) / 64;
}

function fill(tensor: Tensor, seed: number): void {
  for (let start = 0; start < tensor.size; start += PIECE) {
    const count = Math.min(PIECE, tensor.size - start);
    tensor.backend.write(
      tensor.storage,
      Float32Array.from({ length: count }, (_, i) => valueAt(seed, start + i)),
      start,
    );
  }
}

function makeProduct(backend: WebGpuBackend, { rows, columns, steps, layout, type, y }: ProductSpec): Made {
  const [aAlong, bAlong] = ALONG[layout];
  const a = emptyTensor(backend, aAlong === "steps" ? [rows, steps] : [steps, rows], type);
  const b = emptyTensor(backend, bAlong === "steps" ? [columns, steps] : [steps, columns], type);
  const to = emptyTensor(backend, [rows, columns], y);
  fill(a, 1);
  fill(b, 2);
  const product = { a: operandOf(a, aAlong), b: operandOf(b, bAlong), to: operandOf(to, "steps"), adds: false };
  return { product, tensors: [a, b, to] };
}

/** Largest error of some rows of the result, relative to the largest of their elements. */
async function worstError({ rows, columns, steps, layout }: ProductSpec, to: Tensor): Promise<number> {
  const [aAlong, bAlong] = ALONG[layout];
  let [worst, largest] = [0, 0];
  for (const row of [0, Math.floor(rows / 3), rows - 1]) {
    const actual = await to.rowsOf(row, 1).read();
    for (let column = 0; column < columns; column += 1 + Math.floor(columns / 61)) {
      let sum = 0;
      for (let k = 0; k < steps; k++) {
        const left = valueAt(1, aAlong === "steps" ? row * steps + k : k * rows + row);
        sum += left * valueAt(2, bAlong === "steps" ? column * steps + k : k * columns + column);
      }
      worst = Math.max(worst, Math.abs(actual[column] - sum));
      largest = Math.max(largest, Math.abs(sum));
    }
  }
  return worst / largest;
}

function describe({ rows, columns, steps, layout, type, y }: ProductSpec): string {
  return `${layout} ${rows} x ${columns} x ${steps} ${type} -> ${y}`;
}

/** Time and rate of a way to compute a product, and how wrong it is. */
async function measure(
  backend: WebGpuBackend,
  spec: ProductSpec,
  { product, tensors }: Made,
  run: () => void,
): Promise<Numbers> {
  const { rows, columns, steps } = spec;
  const { ms } = await timeOnGpu(backend, run, { runs: 5, warmUps: 2 });
  const error = await worstError(spec, tensors[2]);
  const bytes = tensors.reduce((sum, { size, dtype }) => sum + size * (dtype === "f16" ? 2 : 4), 0);
  return {
    size: describe(spec),
    ms: Number(ms.toFixed(4)),
    "TFLOP/s": Number(((2 * rows * columns * steps) / ms / 1e9).toFixed(2)),
    "GB/s": Number((bytes / ms / 1e6).toFixed(0)),
    error: Number(error.toExponential(1)),
    kind: product.a.type,
  };
}

const released = ({ tensors }: Made): void => tensors.forEach((tensor) => tensor.dispose());

/** What `multiply` takes by itself for each size. */
function chosenCase(name: string, specs: readonly ProductSpec[]): GpuCase {
  return {
    name: `linear ${name}`,
    tags: ["linear"],
    async run(backend) {
      const results: Numbers[] = [];
      for (const spec of specs) {
        const made = makeProduct(backend, spec);
        results.push(await measure(backend, spec, made, () => multiply(backend, made.product)));
        released(made);
      }
      return results;
    },
  };
}

const half = (layout: Layout, rows: number, columns: number, steps: number, y: "f32" | "f16" = "f32"): ProductSpec => ({
  layout,
  rows,
  columns,
  steps,
  y,
  type: "f16",
});

/** The products of a layer of mamba-130m: inputs and outputs. */
const LAYER = [
  [768, 3072],
  [1536, 80],
  [48, 1536],
  [1536, 768],
] as const;
const HEAD = [768, 50280] as const;

function layerSpecs(rows: number): ProductSpec[] {
  return LAYER.flatMap(([inputs, outputs]) => [
    half("NT", rows, outputs, inputs, "f16"),
    half("NN", rows, inputs, outputs, "f16"),
    half("TN", outputs, inputs, rows),
  ]);
}

/** int8 and mixed types through `multiply`: sizes of decoding. */
const decodingCase: GpuCase = {
  name: "linear decoding",
  tags: ["linear"],
  async run(backend) {
    const results: Numbers[] = [];
    for (const rows of [1, 8, 32, 128])
      for (const [inputs, outputs] of [...LAYER, HEAD])
        for (const format of ["f16", "int8"] as const) {
          const weight = createPackedWeight(backend, [outputs, inputs], format === "int8" ? "int8" : "rows", "f16");
          const piece = Float32Array.from({ length: inputs }, (_, i) => valueAt(3, i));
          for (let row = 0; row < outputs; row++) weight.writeRows(row, piece);
          const [x, y] = [emptyTensor(backend, [rows, inputs], "f16"), emptyTensor(backend, [rows, outputs], "f16")];
          fill(x, 1);
          const product = {
            a: operandOf(x, "steps"),
            b: operandOf(weight.tensor, "steps"),
            to: operandOf(y, "steps"),
            adds: false,
          };
          const { ms } = await timeOnGpu(backend, () => multiply(backend, product), { runs: 5 });
          const bytes = inputs * outputs * (format === "int8" ? 1 : 2);
          results.push({
            size: `${rows} x ${outputs} x ${inputs} ${format}`,
            ms: Number(ms.toFixed(4)),
            "GB/s": Number((bytes / ms / 1e6).toFixed(0)),
          });
          for (const tensor of [x, y, weight.tensor]) tensor.dispose();
        }
    return results;
  },
};

const MATRIX_TILES: readonly MatrixTile[] = [
  [128, 128, 32, 64, 64, 1, 1],
  [128, 128, 64, 64, 64, 1, 1],
  [128, 256, 32, 64, 64, 1, 1],
  [256, 128, 32, 64, 64, 1, 1],
  [64, 64, 64, 32, 32, 1, 1],
  [64, 64, 128, 32, 32, 2, 1],
  [64, 64, 128, 32, 32, 2, 2],
  [32, 64, 128, 32, 32, 4, 2],
  [32, 32, 256, 32, 32, 8, 1],
  [32, 32, 256, 32, 32, 8, 2],
  [16, 16, 512, 16, 16, 8, 2],
  [32, 128, 64, 32, 32, 1, 1],
].map(([tileRows, tileColumns, tileSteps, partRows, partColumns, slices, ahead]) => ({
  tileRows,
  tileColumns,
  tileSteps,
  partRows,
  partColumns,
  slices,
  ahead: ahead as 1 | 2,
}));

const PLAIN_TILES: readonly PlainTile[] = [
  [128, 128, 8, 8, 8],
  [128, 128, 16, 8, 8],
  [64, 64, 16, 8, 8],
  [64, 64, 16, 4, 4],
  [64, 64, 32, 4, 4],
  [128, 64, 16, 8, 4],
  [32, 32, 16, 4, 4],
].map(([tileRows, tileColumns, tileSteps, threadRows, threadColumns]) => ({
  tileRows,
  tileColumns,
  tileSteps,
  threadRows,
  threadColumns,
}));

/** Every tile that fits, for one size. */
function variantsCase(spec: ProductSpec, family: "matrices" | "tiles", splitsToTry: readonly number[]): GpuCase {
  return {
    name: `linear-variants ${family} ${describe(spec)}`,
    tags: ["linear-variants"],
    async run(backend) {
      const made = makeProduct(backend, spec);
      const { product } = made;
      const results: Numbers[] = [];
      const add = async (tile: MatrixTile | PlainTile, run: (splits: number) => void): Promise<void> => {
        for (const splits of splitsToTry) {
          const name = { tile: Object.values(tile).join(" "), splits };
          try {
            results.push({ ...name, ...(await measure(backend, spec, made, () => run(splits))) });
          } catch (error) {
            results.push({ ...name, failed: String(error).slice(0, 300) });
          }
        }
      };
      if (family === "tiles")
        for (const tile of PLAIN_TILES) await add(tile, (splits) => multiplyAsTiles(backend, product, tile, splits));
      else
        for (const tile of MATRIX_TILES.filter((each) => fits(backend, each, product)))
          await add(tile, (splits) => multiplyAsMatrices(backend, product, tile, splits));
      released(made);
      return results;
    },
  };
}

function fits(backend: WebGpuBackend, tile: MatrixTile, { a, b }: Product): boolean {
  const most = backend.device.limits.maxComputeWorkgroupStorageSize;
  return isEvenTile(tile, a.along, b.along) && matrixBytes(tile, a.along, b.along) <= most;
}

/** The kernels for a few rows, with teams of several sizes. */
function vectorsCase(spec: ProductSpec): GpuCase {
  return {
    name: `linear-variants vectors ${describe(spec)}`,
    tags: ["linear-variants"],
    async run(backend) {
      const made = makeProduct(backend, spec);
      const results: Numbers[] = [];
      const [least, most] = backend.about.subgroupSize;
      const teams = backend.has("subgroups") && least === most ? [true, false] : [false];
      for (const subgroups of teams)
        for (const threads of [64, 128, 256])
          for (const outputs of [1, 2, 4] as const) {
            const tile: VectorTile = { lanes: subgroups ? most : 32, threads, outputs, subgroups };
            const name = { tile: `${threads} threads, ${outputs} outputs${subgroups ? ", subgroups" : ""}` };
            results.push({
              ...name,
              ...(await measure(backend, spec, made, () => vectors(backend, made.product, tile))),
            });
          }
      released(made);
      return results;
    },
  };
}

const CUBE = half("NT", 4096, 4096, 4096);

export const LINEAR_CASES: readonly GpuCase[] = [
  chosenCase("4096³", [
    CUBE,
    half("NN", 4096, 4096, 4096),
    half("TN", 4096, 4096, 4096),
    { ...CUBE, type: "f32" },
    { ...CUBE, rows: 2048, columns: 2048, type: "f32" },
  ]),
  chosenCase("layer, 16384 tokens", layerSpecs(16384)),
  chosenCase("layer, 2048 tokens", layerSpecs(2048)),
  chosenCase("head, 4096 tokens", [
    half("NT", 4096, HEAD[1], HEAD[0]),
    half("NN", 4096, HEAD[0], HEAD[1], "f16"),
    half("TN", HEAD[1], HEAD[0], 4096),
  ]),
  decodingCase,
  variantsCase(CUBE, "matrices", [1]),
  variantsCase(half("NN", 4096, 4096, 4096), "matrices", [1]),
  variantsCase(half("TN", 4096, 4096, 4096), "matrices", [1]),
  variantsCase(half("NT", 2048, 3072, 768, "f16"), "matrices", [1]),
  variantsCase(half("NT", 16384, 3072, 768, "f16"), "matrices", [1]),
  variantsCase(half("TN", 3072, 768, 16384), "matrices", [1, 4, 8]),
  variantsCase(half("TN", 768, 1536, 16384), "matrices", [8, 14]),
  variantsCase(half("TN", 80, 1536, 16384), "matrices", [8, 28]),
  variantsCase(half("NT", 2048, 80, 1536, "f16"), "matrices", [1, 4]),
  variantsCase(half("NT", 2048, 768, 1536, "f16"), "matrices", [1, 3]),
  variantsCase(half("NN", 16384, 48, 1536, "f16"), "matrices", [1]),
  variantsCase(half("TN", 1536, 48, 16384), "matrices", [8, 32]),
  ...[32, 128].flatMap((rows) => [
    variantsCase(half("NT", rows, 3072, 768, "f16"), "matrices", [1]),
    variantsCase(half("NT", rows, 768, 1536, "f16"), "matrices", [1, 3]),
    variantsCase(half("NT", rows, 80, 1536, "f16"), "matrices", [1, 3]),
  ]),
  variantsCase({ ...CUBE, type: "f32" }, "tiles", [1]),
  variantsCase({ ...half("NT", 128, 3072, 768), type: "f32" }, "tiles", [1, 3]),
  vectorsCase(half("NT", 1, 50280, 768)),
  vectorsCase(half("NT", 1, 3072, 768, "f16")),
  vectorsCase(half("NT", 1, 80, 1536, "f16")),
  vectorsCase(half("NT", 8, 3072, 768, "f16")),
];
