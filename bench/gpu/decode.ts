// Cases of decoding and prefill: random models of the published sizes; wall time, GPU time, and where a step's time goes.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { createRandomModel } from "../../src/cli/commands/bench/random-model.ts";
import type { ShapeName } from "../../src/cli/commands/bench/shapes.ts";
import { shapeConfig } from "../../src/cli/commands/bench/shapes.ts";
import { createRandom } from "../../src/core/random.ts";
import { sizeOf } from "../../src/core/shape.ts";
import { GpuDecoder } from "../../src/generate/gpu-decoder.ts";
import { samplingSettings } from "../../src/generate/sampling.ts";
import type { SamplingOptions } from "../../src/generate/sampling.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";
import { productSpec, project } from "../../src/ops/mamba-step/webgpu.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { spread, timeByKernel, timeOnGpu, timeOnWall } from "./case.ts";

type Weights = "f32" | "f16" | "int8";

const NEW_TOKENS = 256;
const PREFILL_TOKENS = 2048;
/** Elements of a piece of random weights, sent again and again: 5 GB of weights in a second. */
const PIECE = 1 << 22;

/** A model with random weights; those of products in halves come from one piece, since random numbers are slower than the GPU. */
function makeModel(backend: WebGpuBackend, shape: ShapeName, weights: Weights): MambaModel {
  if (weights !== "f16") return createRandomModel(shapeConfig(shape), backend, weights, () => undefined);
  const small = createRandomModel({ ...shapeConfig(shape), vocabSize: 8, nLayer: 1 }, backend, "f32", () => undefined);
  const model = new MambaModel(shapeConfig(shape));
  model.activations = "f16";
  const random = createRandom(1);
  const piece = Float32Array.from({ length: PIECE }, () => 0.04 * (random.uniform() - 0.5));
  const first = small.namedParameters();
  for (const [name, parameter] of model.namedParameters()) {
    if (parameter.isPackable) parameter.assign(repeated(backend, piece, parameter.shape));
    else {
      const like = first.get(name.replace(/layers\.\d+/, "layers.0"))!.tensor;
      const copy = emptyTensor(backend, like.shape);
      backend.copy(like.storage, 0, copy.storage, 0, like.size);
      parameter.assign(copy);
    }
  }
  small.dispose();
  return model;
}

/** A weight in halves: the piece once from the host, then copied on the device. */
function repeated(backend: WebGpuBackend, piece: Float32Array, shape: readonly number[]): Tensor {
  const tensor = emptyTensor(backend, shape, "f16");
  const size = sizeOf(shape);
  backend.write(tensor.storage, piece.subarray(0, Math.min(size, PIECE)));
  for (let at = PIECE; at < size; at += PIECE)
    backend.write(tensor.storage, piece.subarray(0, Math.min(PIECE, size - at)), at);
  return tensor;
}

function makeDecoder(
  backend: WebGpuBackend,
  model: MambaModel,
  batch: number,
  limit: number,
  options: SamplingOptions,
): GpuDecoder<ReturnType<MambaModel["initialState"]>> {
  return new GpuDecoder(model, {
    state: model.initialState(batch),
    logits: zeros(backend, [batch, 1, model.config.vocabSize]),
    rows: Array.from({ length: batch }, (_, seed) => ({ seed, prompt: Int32Array.of(1) })),
    settings: samplingSettings({ ...options, vocabSize: model.config.vocabSize }),
    limit,
    keepsStates: false,
  });
}

/** Tokens a second by the wall, as a caller of generate sees them. */
async function measureDecoding(
  backend: WebGpuBackend,
  model: MambaModel,
  batch: number,
  options: SamplingOptions,
): Promise<Numbers> {
  const keys = Array.from({ length: batch }, (_, i) => i);
  const run = async (limit: number): Promise<number> => {
    const decoder = makeDecoder(backend, model, batch, limit, options);
    for (let i = 0; i < 64; i++) await decoder.next(keys);
    await backend.finish();
    const started = performance.now();
    for (let i = 64; i < limit; i++) await decoder.next(keys);
    const ms = (performance.now() - started) / (limit - 64);
    decoder.dispose();
    return ms;
  };
  await run(96);
  const times = [await run(64 + NEW_TOKENS), await run(64 + NEW_TOKENS), await run(64 + NEW_TOKENS)];
  const { ms, least, most } = spread(times);
  return { what: `decode ${JSON.stringify(options)}`, batch, "tok/s": (1000 * batch) / ms, ms, least, most };
}

/** GPU time of one step without sampling, replayed as a plan, and by kernel. */
async function measureStep(backend: WebGpuBackend, model: MambaModel, batch: number): Promise<Numbers[]> {
  const state = model.initialState(batch);
  const tokens = tensorFrom(backend, new Int32Array(batch).fill(1), [batch, 1], "i32");
  const step = (): void => {
    scope(() => void model.forward(tokens, state, { logits: "last", inPlace: true, checked: false }));
  };
  step();
  await backend.finish();
  const plan = backend.capture(step);
  const STEPS = 16;
  const all = (): void => {
    for (let i = 0; i < STEPS; i++) plan.run();
  };
  const { ms } = await timeOnGpu(backend, all, { runs: 10 });
  const started = performance.now();
  all();
  backend.submit();
  const encodeMs = (performance.now() - started) / STEPS;
  await backend.finish();
  const wall = (await timeOnWall(backend, all)) / STEPS;
  const kernels = await timeByKernel(backend, () => plan.run());
  plan.dispose();
  state.dispose();
  tokens.dispose();
  return [
    { what: "step", batch, gpuMs: ms / STEPS, encodeMs, wallMs: wall, "tok/s": (batch * 1000 * STEPS) / ms },
    { what: "kernels of a step", batch, ...kernels },
  ];
}

async function measurePrefill(backend: WebGpuBackend, model: MambaModel, batch: number): Promise<Numbers[]> {
  const random = createRandom(2);
  const ids = Int32Array.from({ length: batch * PREFILL_TOKENS }, () => random.integer(model.config.vocabSize));
  const tokens = tensorFrom(backend, ids, [batch, PREFILL_TOKENS], "i32");
  const state = model.initialState(batch);
  const run = (): void => {
    scope(() => void model.forward(tokens, state, { logits: "last", inPlace: true, checked: false }));
  };
  run();
  await backend.finish();
  const { ms, least } = await timeOnGpu(backend, run, { runs: 5, warmUps: 2 });
  const wall = await timeOnWall(backend, run);
  const kernels = await timeByKernel(backend, run);
  tokens.dispose();
  state.dispose();
  return [
    { what: "prefill", batch, tokens: PREFILL_TOKENS, ms, least, wall, "tok/s": (1000 * batch * PREFILL_TOKENS) / ms },
    { what: "kernels of prefill", ...kernels },
  ];
}

function decodeCase(shape: ShapeName, weights: Weights, batches: readonly number[], options: SamplingOptions): GpuCase {
  return {
    name: `decode ${shape} ${weights} B${batches.join(",")}`,
    tags: ["decode", `decode-${shape}`],
    async run(backend) {
      const model = makeModel(backend, shape, weights);
      const results: Numbers[] = [];
      for (const batch of batches) {
        // One batch that fails leaves the numbers of the others.
        try {
          results.push(...(await measureStep(backend, model, batch)));
          results.push(await measureDecoding(backend, model, batch, { temperature: 0 }));
          if (options.temperature !== 0) results.push(await measureDecoding(backend, model, batch, options));
        } catch (error) {
          results.push({ batch, failed: String(error) });
        }
      }
      model.dispose();
      return results;
    },
  };
}

function prefillCase(shape: ShapeName, weights: Weights, batch: number): GpuCase {
  return {
    name: `prefill ${shape} ${weights} B${batch} L${PREFILL_TOKENS}`,
    tags: ["prefill", `prefill-${shape}`],
    async run(backend) {
      const model = makeModel(backend, shape, weights);
      const results = await measurePrefill(backend, model, batch);
      model.dispose();
      return results;
    },
  };
}

/**
 * A product of a step by teams of several sizes. So many weights take turns that none is in a cache when it is read again.
 */
function productsCase(outputs: number, inputs: number, norm: boolean, rows: number): GpuCase {
  return {
    name: `decode-products ${rows} x ${outputs} x ${inputs}${norm ? ", norm" : ""}`,
    tags: ["decode-products"],
    async run(backend) {
      const make = (shape: readonly number[], dtype: "f32" | "f16"): Tensor => emptyTensor(backend, shape, dtype);
      const [x, y, scale] = [make([rows, inputs], "f32"), make([rows, outputs], "f32"), make([inputs], "f32")];
      const weights = Array.from({ length: Math.ceil(2e8 / (2 * outputs * inputs)) }, () =>
        make([outputs, inputs], "f16"),
      );
      const usual = productSpec(backend, x, weights[0], { norm });
      const results: Numbers[] = [];
      for (const perTeam of [1, 2, 4])
        for (const split of [1, 2, 4, 8]) {
          const run = (): void => {
            for (const weight of weights)
              project(backend, { x, weight, y, ...(norm ? { norm: scale } : {}) }, { ...usual, perTeam, split }, 1e-5);
          };
          const ms = (await timeOnGpu(backend, run, { runs: 5 })).ms / weights.length;
          const isUsual = perTeam === usual.perTeam && split === usual.split;
          results.push({ perTeam, split, isUsual: String(isUsual), ms, "GB/s": (2 * outputs * inputs) / ms / 1e6 });
        }
      for (const tensor of [x, y, scale, ...weights]) tensor.dispose();
      return results;
    },
  };
}

const GREEDY: SamplingOptions = { temperature: 0 };
const SAMPLED: SamplingOptions = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.02, repetitionPenalty: 1.1 };

export const DECODE_CASES: readonly GpuCase[] = [
  decodeCase("tiny", "f16", [1], GREEDY),
  decodeCase("130m", "f16", [1, 2, 8, 32, 128], SAMPLED),
  decodeCase("130m", "f32", [1, 8], GREEDY),
  decodeCase("130m", "int8", [1, 8], GREEDY),
  decodeCase("2.8b", "f16", [1, 8], GREEDY),
  prefillCase("130m", "f16", 1),
  prefillCase("2.8b", "f16", 1),
  productsCase(3072, 768, true, 1),
  productsCase(768, 1536, false, 1),
  productsCase(10240, 2560, true, 1),
  productsCase(2560, 5120, false, 1),
  productsCase(768, 1536, false, 8),
];
