// One sample of every op, with sizes that no vector length divides.
import type { Random } from "../../../core/random.ts";
import { adamwStep, scaleInPlace } from "../../../ops/adamw/index.ts";
import { add } from "../../../ops/add/index.ts";
import { causalAttention } from "../../../ops/causal-attention/index.ts";
import { causalConv1d } from "../../../ops/causal-conv1d/index.ts";
import { crossEntropy } from "../../../ops/cross-entropy/index.ts";
import { embedding } from "../../../ops/embedding/index.ts";
import { expandRows } from "../../../ops/expand-rows/index.ts";
import { expertMlp } from "../../../ops/expert-mlp/index.ts";
import { gelu } from "../../../ops/gelu/index.ts";
import { gru } from "../../../ops/gru/index.ts";
import { layerNorm } from "../../../ops/layer-norm/index.ts";
import { fftConvolution } from "../../../ops/fft-convolution/index.ts";
import { linearCrossEntropy } from "../../../ops/linear-cross-entropy/index.ts";
import { linear } from "../../../ops/linear/index.ts";
import { createPackedWeight } from "../../../ops/linear/pack.ts";
import { lstm } from "../../../ops/lstm/index.ts";
import { multiply } from "../../../ops/multiply/index.ts";
import { rmsNorm } from "../../../ops/rms-norm/index.ts";
import { routeExperts } from "../../../ops/route-experts/index.ts";
import { rotary } from "../../../ops/rotary/index.ts";
import { s4dKernel } from "../../../ops/s4d-kernel/index.ts";
import { s4dScan } from "../../../ops/s4d-scan/index.ts";
import { negativeExp, selectiveScan } from "../../../ops/selective-scan/index.ts";
import type { ScanInputs } from "../../../ops/selective-scan/index.ts";
import { siluGate } from "../../../ops/silu-gate/index.ts";
import { softplus } from "../../../ops/softplus/index.ts";
import { sumSquares } from "../../../ops/sum-squares/index.ts";
import type { OpSample, SampleInput } from "./op-sample.ts";
import { sampleFunction, sampleOp, sampleValues } from "./op-sample.ts";

const BATCH = 2;
/** More than one of the chunks of 64 steps between which the scan saves its state. */
const LENGTH = 77;
const WIDTH = 29;
const VOCABULARY = 101;

const rows = (width: number): SampleInput => ({ shape: [BATCH, LENGTH, width] });
const activation = (width: number): SampleInput => ({ ...rows(width), isActivation: true });
const vector = (size: number): SampleInput => ({ shape: [size] });
const ids = (below: number): SampleInput => ({
  shape: [BATCH, LENGTH],
  dtype: "i32",
  element: (random) => random.integer(below),
});
/** Columns that are more than one block of int8. */
const INPUTS = 141;
const STATES = 16;
const SEED_OF_PACKED = 5;
const positive = (random: Random): number => 0.1 + random.uniform();

/** Large and even enough for the matrix units of a GPU. */
const WIDE = { x: { shape: [BATCH, 64, 128], isActivation: true }, weight: { shape: [192, 128] } };
const LINEAR = { x: activation(INPUTS), weight: { shape: [WIDTH, INPUTS] }, bias: vector(WIDTH) };

/** With a document that begins in the middle. */
const documentStarts: SampleInput = { ...ids(2), element: (_, index) => (index % LENGTH === 20 ? 1 : 0) };
const CONV = {
  x: activation(WIDTH),
  weight: { shape: [WIDTH, 4] },
  bias: vector(WIDTH),
  initialState: { shape: [BATCH, 3, WIDTH] },
  documentStarts,
};

/** Two experts a token, of a mixture of so many. */
function experts(count: number, dModel: number, dInner: number) {
  return {
    x: activation(dModel),
    gates: rows(2),
    choices: { ...rows(2), dtype: "i32", element: (random: Random) => random.integer(count) },
    upGate: { shape: [count, 2 * dInner, dModel] },
    down: { shape: [count, dModel, dInner] },
  } as const;
}

/** All inputs of a scan: skip, gate, initial state and a document that begins in the middle. */
function scan(groups: number): { [K in keyof ScanInputs]?: SampleInput } {
  const channels = 14;
  return {
    x: activation(channels),
    dtRaw: { ...activation(channels), element: positive },
    A: { shape: [channels, STATES], element: (random) => -positive(random) },
    B: activation(groups * STATES),
    C: activation(groups * STATES),
    D: vector(channels),
    dtBias: { ...vector(channels), element: positive },
    z: activation(channels),
    initialState: { shape: [BATCH, channels, STATES] },
    documentStarts,
  };
}

/** Parameters of S4D: steps of 0.02 to 0.1, decays about 1/2. */
const S4D = {
  logDt: { ...vector(WIDTH), element: (random: Random) => Math.log(0.02 + 0.08 * random.uniform()) },
  A_log_real: { shape: [WIDTH, STATES], element: (random: Random) => 0.3 * random.normal() - 0.7 },
  A_imag: { shape: [WIDTH, STATES], element: (random: Random) => 20 * random.uniform() },
  C: { shape: [WIDTH, 2 * STATES] },
};
const S4D_SCAN = {
  ...S4D,
  x: activation(WIDTH),
  D: vector(WIDTH),
  initialState: { shape: [BATCH, WIDTH, 2 * STATES] },
  documentStarts,
};
const CONVOLUTION = { x: activation(WIDTH), kernel: { shape: [LENGTH, WIDTH] }, D: vector(WIDTH) };

/** Products of many rows and of one with a packed weight, and its rows as an embedding. */
function samplePacked(format: "panels" | "int8"): OpSample {
  const { weight, ...rest } = LINEAR;
  const inputs = { ...rest, ids: ids(WIDTH), oneRow: { shape: [1, INPUTS], isActivation: true } };
  return sampleFunction(`linear, ${format}`, inputs, ({ x, bias, ids, oneRow }, backend) => {
    const packed = createPackedWeight(backend, weight.shape, format);
    packed.writeRows(0, sampleValues(weight, SEED_OF_PACKED));
    return {
      y: linear({ x, weight: packed.tensor, bias }, {}).y,
      one: linear({ x: oneRow, weight: packed.tensor, bias }, {}).y,
      embedded: embedding({ ids, weight: packed.tensor }, {}).y,
    };
  });
}

/** A recurrence with so many gates a unit. */
function recurrence(gates: number, units: number) {
  const state: SampleInput = { shape: [BATCH, units] };
  const weight: SampleInput = { shape: [gates * units, units], element: (random) => random.normal() / 5 };
  return { gates: activation(gates * units), weight, initialH: state, documentStarts };
}

export const OP_SAMPLES: readonly OpSample[] = [
  sampleOp(embedding, { ids: ids(VOCABULARY), weight: { shape: [VOCABULARY, WIDTH] } }, {}),
  sampleOp(rmsNorm, { x: activation(WIDTH), weight: vector(WIDTH) }, {}),
  sampleOp(add, { a: activation(WIDTH), b: activation(WIDTH) }, {}),
  sampleOp(softplus, { x: activation(WIDTH), bias: vector(WIDTH) }, {}),
  sampleOp(s4dKernel, S4D, { length: 300 }),
  sampleOp(fftConvolution, CONVOLUTION, {}),
  sampleOp(s4dScan, S4D_SCAN, {}),
  sampleOp(siluGate, { x: activation(WIDTH), z: activation(WIDTH) }, {}),
  sampleOp(crossEntropy, { logits: activation(VOCABULARY), targets: ids(VOCABULARY) }, {}),
  sampleOp(
    linearCrossEntropy,
    { x: activation(WIDTH), weight: { shape: [VOCABULARY, WIDTH] }, targets: ids(VOCABULARY) },
    {},
  ),
  sampleOp(linear, LINEAR, {}, "linear, rows"),
  sampleOp(linear, WIDE, {}, "linear, wide"),
  samplePacked("panels"),
  samplePacked("int8"),
  sampleOp(routeExperts, { logits: rows(11) }, { topK: 2 }),
  sampleOp(expertMlp, experts(5, WIDTH, 13), {}),
  sampleOp(expertMlp, experts(2, 64, 48), {}, "expertMlp, wide"),
  sampleOp(causalConv1d, CONV, { silu: true }),
  sampleOp(negativeExp, { x: { shape: [WIDTH, STATES] } }, {}),
  sampleOp(multiply, { a: activation(WIDTH), b: activation(WIDTH) }, {}),
  sampleOp(expandRows, { row: vector(WIDTH) }, { shape: [BATCH, LENGTH] }),
  sampleOp(layerNorm, { x: activation(WIDTH), weight: vector(WIDTH), bias: vector(WIDTH) }, {}),
  sampleOp(gelu, { x: activation(WIDTH) }, {}, "gelu"),
  sampleOp(gelu, { x: activation(WIDTH) }, { approximate: "tanh" }, "gelu, tanh"),
  sampleOp(lstm, { ...recurrence(4, WIDTH), initialC: { shape: [BATCH, WIDTH] } }, {}, "lstm"),
  sampleOp(lstm, recurrence(4, INPUTS), {}, "lstm, large"),
  sampleOp(gru, { ...recurrence(3, WIDTH), bias: vector(3 * WIDTH) }, {}),
  sampleOp(selectiveScan, scan(1), {}, "selectiveScan"),
  sampleOp(selectiveScan, scan(2), { groups: 2, softplus: false }, "selectiveScan, groups"),
  sampleOp(
    rotary,
    { x: activation(40), positions: { shape: [BATCH], dtype: "i32", element: () => 1000 } },
    { headDim: 8 },
  ),
  sampleOp(causalAttention, { q: activation(32), k: activation(16), v: activation(16) }, { headDim: 8 }),
  sampleOp(
    causalAttention,
    { q: activation(128), k: activation(64), v: activation(64) },
    { headDim: 64 },
    "causalAttention, heads for matrix units",
  ),
  sampleFunction("sumSquares", { x: rows(WIDTH) }, ({ x }) => ({ sum: sumSquares([x]) })),
  sampleFunction("scaleInPlace", { x: rows(WIDTH) }, ({ x }) => {
    scaleInPlace(x, 0.3);
    return { x };
  }),
  sampleFunction(
    "adamwStep",
    { parameter: rows(WIDTH), grad: rows(WIDTH), m: rows(WIDTH), v: { ...rows(WIDTH), element: positive } },
    ({ parameter, grad, m, v }) => {
      adamwStep({ parameter, grad, m, v }, { learningRate: 0.01, step: 3 });
      return { parameter, m, v };
    },
  ),
];
