// A report with all sections and numbers of a likely size, made by formulas: for tests of what draws and writes reports.
import type { LengthPoint, ModelReport, Report } from "../../src/report/schema.ts";

interface Kind {
  readonly name: string;
  readonly architecture: string;
  readonly description: string;
  readonly floor: number;
  /** Seconds of a token while reading, and what each token of context adds. */
  readonly token: number;
  readonly quadratic: number;
  readonly decode: number;
  readonly decodeGrowth: number;
  readonly state: number;
  readonly cache: number;
}

const KINDS: readonly Kind[] = [
  {
    name: "mamba",
    architecture: "mamba",
    description: "Selective state space, Mamba-1 blocks.",
    floor: 1.02,
    token: 2.1e-6,
    quadratic: 0,
    decode: 310e-6,
    decodeGrowth: 0,
    state: 3e6,
    cache: 6e3,
  },
  {
    name: "transformer",
    architecture: "transformer",
    description: "Transformer++: rotary positions, SwiGLU, RMS norm.",
    floor: 1.05,
    token: 1.6e-6,
    quadratic: 6e-10,
    decode: 290e-6,
    decodeGrowth: 2.5e-8,
    state: 0,
    cache: 42e3,
  },
  {
    name: "lstm",
    architecture: "lstm",
    description: "Two layers of LSTM.",
    floor: 1.21,
    token: 21e-6,
    quadratic: 0,
    decode: 180e-6,
    decodeGrowth: 0,
    state: 1e5,
    cache: 9e3,
  },
  {
    name: "s4d",
    architecture: "s4d",
    description: "Diagonal state spaces without selection.",
    floor: 1.17,
    token: 1.9e-6,
    quadratic: 0,
    decode: 260e-6,
    decodeGrowth: 0,
    state: 3e6,
    cache: 5e3,
  },
  {
    name: "h3",
    architecture: "h3",
    description: "Two state spaces with gates between.",
    floor: 1.13,
    token: 3.1e-6,
    quadratic: 0,
    decode: 400e-6,
    decodeGrowth: 0,
    state: 4e6,
    cache: 7e3,
  },
  {
    name: "mamba without convolution",
    architecture: "mamba-no-conv",
    description: "Ablation: Mamba blocks without the causal convolution.",
    floor: 1.09,
    token: 2.0e-6,
    quadratic: 0,
    decode: 300e-6,
    decodeGrowth: 0,
    state: 3e6,
    cache: 6e3,
  },
];

const TOKENS = 20_000_000;
const TUNED_BY = "held-out loss, nats per token";
const DEVICE_BYTES = 16 * 2 ** 30;

export function sampleReport(kind: "text" | "task" = "text"): Report {
  const models = KINDS.map((model) => (kind === "text" ? textModel(model) : taskModel(model)));
  return {
    version: 1,
    title: kind === "text" ? "Six architectures on TinyStories" : "Six architectures on induction heads",
    created: "2026-11-26T10:00:00.000Z",
    command: "npx mamba compare stories/*.txt --models mamba,transformer,lstm --tokens 20M --parameters 5M",
    software: "mamba.ts 0.2.0",
    machine: {
      processor: "AMD EPYC 9554",
      cores: 16,
      memoryBytes: 128 * 2 ** 30,
      device: "webgpu",
      gpu: "NVIDIA H100 80GB HBM3",
      gpuMemoryBytes: 80 * 2 ** 30,
      node: "20.20.2",
      platform: "linux x64",
    },
    data:
      kind === "text"
        ? {
            kind,
            names: ["stories/train.txt"],
            description: "Short stories in simple English.",
            tokenizer: "bytes",
            vocabulary: 257,
            tokens: 180_000_000,
            bytes: 180_000_000,
            heldOut: [
              { name: "stories", tokens: 500_000, bytes: 500_000 },
              { name: "Moby Dick & <more>", tokens: 200_000, bytes: 200_000 },
            ],
          }
        : {
            kind,
            names: ["induction heads"],
            description: "Find the token that followed the special one.",
            vocabulary: 16,
            tokens: TOKENS,
            heldOut: [{ name: "fresh sequences", tokens: 100_000 }],
            chance: 1 / 16,
          },
    budget: { parameters: 5_000_000, tokens: TOKENS },
    recipe: {
      batch: 32,
      length: 512,
      schedule: "cosine",
      warmup: 0.05,
      weightDecay: 0.1,
      seed: 1,
      mixedPrecision: true,
    },
    models: [
      ...models,
      {
        name: "mamba-moe",
        architecture: "mamba-moe",
        description: "Mamba blocks and mixtures of experts in turn.",
        parameters: 14_200_000,
        activeParameters: 5_100_000,
        config: { dModel: 256, nLayer: 8, experts: 8 },
        recipe: { learningRate: 0.002 },
        status: "failed",
        reason: "The loss was no longer finite at step 312; a lower learning rate may help.",
      },
      {
        name: "gru",
        architecture: "gru",
        description: "Two layers of GRU.",
        parameters: 5_000_000,
        config: {},
        recipe: {},
        status: "skipped",
        reason: "The time was used up.",
      },
    ],
    ...(kind === "text" ? { sweep: sampleSweep(), references: sampleReferences() } : {}),
    notes: ["Each number of speed is the median of five runs."],
  };
}

/** The least that a report may hold. */
export function minimalReport(): Report {
  return {
    version: 1,
    title: "Nothing yet",
    created: "2026-11-26T10:00:00.000Z",
    command: "npx mamba compare a.txt",
    software: "mamba.ts 0.2.0",
    machine: { processor: "Apple M3", cores: 8, device: "wasm", node: "22.12.0" },
    data: { kind: "text", names: ["a.txt"], tokens: 1000, heldOut: [] },
    budget: { minutes: 10 },
    recipe: {},
    models: [],
  };
}

function model(kind: Kind): ModelReport {
  return {
    name: kind.name,
    architecture: kind.architecture,
    description: kind.description,
    parameters: 5_012_345 + kind.name.length * 1000,
    config: { dModel: 256, nLayer: 10 },
    recipe: { learningRate: 0.003 },
    status: "done",
    tuning: [
      { learningRate: 0.0015, score: kind.floor + 0.8, what: TUNED_BY },
      { learningRate: 0.003, score: kind.floor + 0.7, what: TUNED_BY },
      { learningRate: 0.3, what: TUNED_BY, stopped: "train: the loss is NaN at step 12." },
    ],
    speed: {
      prefill: lengths(9, 19, (length) => ({
        seconds: length * (kind.token + kind.quadratic * length) + 4e-4,
        memoryBytes: kind.state + kind.cache * length * (kind.quadratic > 0 ? 1 : 4),
      })),
      decode: lengths(9, 19, (length) => ({
        seconds: kind.decode + kind.decodeGrowth * length,
        memoryBytes: kind.state + (kind.quadratic > 0 ? kind.cache * length : 0),
      })).map((point) => (point.seconds === undefined ? point : { ...point, tokensPerSecond: 1 / point.seconds })),
      batch: [1, 2, 4, 8, 16, 32, 64, 128, 256].map((batch) =>
        kind.quadratic > 0 && batch > 64
          ? { batch, stopped: "no memory for the caches" }
          : { batch, tokensPerSecond: batch / (kind.decode + batch * (kind.quadratic > 0 ? 8e-6 : 1.5e-6)) },
      ),
      training: lengths(8, 14, (length) => ({ seconds: 3 * 16_384 * (kind.token + kind.quadratic * length) })).map(
        (point) => (point.seconds === undefined ? point : { ...point, tokensPerSecond: 16_384 / point.seconds }),
      ),
    },
  };
}

function textModel(kind: Kind): ModelReport {
  return {
    ...model(kind),
    training: {
      ...training(),
      curve: Array.from({ length: 60 }, (_, i) => {
        const tokens = ((i + 1) / 60) * TOKENS;
        const lossNats = kind.floor + 3.2 * (1 + i) ** -0.8 + 0.02 * Math.sin(i * 7 + kind.floor * 10);
        const point = { step: Math.round(tokens / 16_384), tokens, lossNats };
        return i % 6 === 5 ? { ...point, evalLossNats: lossNats + 0.02 } : point;
      }),
    },
    quality: {
      evaluations: ["stories", "Moby Dick & <more>"].map((name, i) => {
        const lossNats = kind.floor + 0.1 + i * 1.1;
        return { name, lossNats, bitsPerByte: lossNats / Math.LN2, perplexity: Math.exp(lossNats) };
      }),
      lossByPosition: Array.from({ length: 10 }, (_, i) => ({
        position: 2 ** i,
        lossNats: kind.floor + 1.5 * 2 ** (-0.45 * i),
      })),
    },
    extrapolation: lengths(9, 18, () => ({})).map(({ length, stopped }) =>
      stopped === undefined
        ? {
            length,
            lossNats:
              kind.floor + (kind.quadratic > 0 ? 0.9 * Math.log2(length / 512) : -0.01 * Math.log2(length / 512)),
          }
        : { length, stopped },
    ),
  };
}

function taskModel(kind: Kind): ModelReport {
  const best = kind.architecture === "mamba" ? 1 : kind.quadratic > 0 ? 0.997 : 0.6;
  return {
    ...model(kind),
    training: {
      ...training(),
      curve: Array.from({ length: 30 }, (_, i) => ({
        step: (i + 1) * 100,
        tokens: ((i + 1) / 30) * TOKENS,
        lossNats: 2.8 * Math.exp(-i / 8) * (2 - best),
        evalAccuracy: best / (1 + Math.exp(8 - i)),
      })),
    },
    quality: { evaluations: [{ name: "fresh sequences", lossNats: 0.1, accuracy: best }] },
    extrapolation: lengths(6, 20, () => ({})).map(({ length, stopped }) =>
      stopped === undefined
        ? { length, accuracy: kind.quadratic > 0 && length > 256 ? Math.max(0.0625, 256 / length) * best : best }
        : { length, stopped },
    ),
  };
}

function training(): Omit<NonNullable<ModelReport["training"]>, "curve"> {
  return {
    length: 512,
    batch: 32,
    steps: 1220,
    tokens: TOKENS,
    seconds: 412,
    tokensPerSecond: TOKENS / 412,
    peakMemoryBytes: 3.1 * 2 ** 30,
  };
}

/** Powers of two; a model with a cache stops at 2^15, as if its memory were full. */
function lengths(
  from: number,
  to: number,
  measure: (length: number) => { seconds?: number; memoryBytes?: number },
): LengthPoint[] {
  const points: LengthPoint[] = [];
  for (let i = from; i <= to; i++) {
    const length = 2 ** i;
    const measured = measure(length);
    if ((measured.memoryBytes ?? 0) > DEVICE_BYTES / 8 || (measured.seconds ?? 0) > 8) {
      points.push({
        length,
        stopped: (measured.seconds ?? 0) > 8 ? "slower than 8 s" : "out of memory: 1.4 GiB asked",
      });
      break;
    }
    points.push({
      length,
      ...measured,
      ...(measured.seconds === undefined ? {} : { tokensPerSecond: length / measured.seconds }),
    });
  }
  return points;
}

function sampleSweep(): NonNullable<Report["sweep"]> {
  const sizes = [3e5, 1e6, 3e6, 1e7, 3e7];
  return {
    rule: "20 tokens a parameter",
    points: ["mamba", "transformer"].flatMap((architecture, i) =>
      sizes.map((parameters, k) => ({
        architecture,
        parameters,
        tokens: 20 * parameters,
        flops: 120 * parameters ** 2,
        lossNats: 11 * (parameters / (i === 0 ? 1 : 1.8)) ** -0.13 * (1 + (k % 2 === 0 ? 0.004 : -0.004)),
      })),
    ),
    fits: ["mamba", "transformer"].map((architecture, i) => ({
      architecture,
      against: "parameters" as const,
      floor: 0,
      scale: 11 * (i === 0 ? 1 : 1.8 ** 0.13),
      exponent: 0.13,
      error: 0.004,
    })),
    ratios: [{ of: "transformer", to: "mamba", against: "parameters", lossNats: 1.5, ratio: 1.8 }],
  };
}

function sampleReferences(): NonNullable<Report["references"]> {
  return [
    {
      name: "PyTorch 2.9, flash attention",
      source: "bench/results/pytorch-h100.json",
      chart: "prefill",
      points: [9, 11, 13, 15, 17].map((i) => ({ x: 2 ** i, y: 2 ** i * (1e-6 + 1.5e-10 * 2 ** i) + 1e-3 })),
    },
  ];
}
