// train in memory: it learns, accumulation is exact, memory is constant, and what diverges stops.
import { describe, expect, it } from "vitest";
import { reference, wasmBackend } from "../support/backends.ts";
import { tinyModel } from "../support/tiny-model.ts";
import { expectClose } from "../support/compare.ts";
import type { Backend } from "../../src/backends/backend.ts";
import { ConfigError, DataError } from "../../src/core/errors.ts";
import { createRandom } from "../../src/core/random.ts";
import type { Batch, BatchSource, TokenData } from "../../src/data/index.ts";
import { randomWindows, streams } from "../../src/data/index.ts";
import { createModel } from "../../src/models/architectures.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";
import type { LanguageModel } from "../../src/nn/language-model.ts";
import type { TrainOptions, TrainProgress } from "../../src/train/options.ts";
import { train } from "../../src/train/trainer.ts";

const VOCAB = 16;

function newModel(backend: Backend): MambaModel {
  return tinyModel(backend, { dModel: 16, vocabSize: VOCAB, dState: 4 });
}

/** A text of a few repeated words, in two documents. */
function textOf(length: number): TokenData {
  const random = createRandom(1);
  const words = Array.from({ length: 6 }, () => Array.from({ length: 4 }, () => random.integer(VOCAB)));
  const tokens = Uint8Array.from(Array.from({ length: length / 4 }, () => words[random.integer(6)]).flat());
  return { tokens, documentStarts: Int32Array.of(0, Math.floor(length / 3)), bytes: length };
}

function optionsFor(model: MambaModel, data: BatchSource): TrainOptions<ReturnType<MambaModel["initialState"]>> {
  return { model, data, steps: 6, learningRate: 0.01, schedule: "constant" };
}

function weightsOf(model: MambaModel): number[] {
  return model.parameters().flatMap(({ tensor }) => Array.from(tensor.readNow()));
}

/** Gives the same batches as another source, several at once as one. */
function joined(source: BatchSource, count: number): BatchSource {
  return {
    ...source,
    next(): Batch {
      const batches = Array.from({ length: count }, () => source.next());
      return {
        tokens: Int32Array.from(batches.flatMap(({ tokens }) => Array.from(tokens))),
        targets: Int32Array.from(batches.flatMap(({ targets }) => Array.from(targets))),
        documentStarts: Uint8Array.from(batches.flatMap(({ documentStarts }) => Array.from(documentStarts))),
        batch: batches.reduce((sum, { batch }) => sum + batch, 0),
        length: batches[0].length,
      };
    },
  };
}

describe("train", () => {
  it("learns, and tells of it", async () => {
    const model = newModel(await wasmBackend());
    const text = textOf(4000);
    const told: TrainProgress[] = [];
    const result = await train({
      ...optionsFor(model, randomWindows(text, { batch: 8, length: 32, seed: 0 })),
      steps: 60,
      warmupSteps: 10,
      schedule: "cosine",
      evaluation: { tokens: text.tokens.subarray(0, 400), bytes: 400, window: 40 },
      evalEvery: 30,
      onProgress: (progress) => told.push(progress),
    });
    const steps = told.filter(({ evaluation }) => !evaluation);
    const evaluations = told.flatMap(({ step, evaluation }) => (evaluation ? [{ step, ...evaluation }] : []));
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(steps[0].loss).toBeCloseTo(Math.log(VOCAB), 0);
    expect(steps[59].loss).toBeLessThan(1.2);
    expect(steps[9].learningRate).toBe(0.01);
    expect(steps[59].learningRate).toBeCloseTo(1e-5, 12);
    expect(steps[59].tokens).toBe(60 * 8 * 32);
    expect(steps[59].secondsLeft).toBe(0);
    expect(steps.every(({ gradNorm, tokensPerSecond }) => gradNorm > 0 && tokensPerSecond > 0)).toBe(true);
    expect(evaluations.map(({ step }) => step)).toEqual([30, 60]);
    expect(evaluations[1].loss).toBeLessThan(evaluations[0].loss);
    expect(evaluations[1].bitsPerByte).toBeCloseTo(evaluations[1].loss / Math.LN2, 9);
    const { step, loss, bitsPerByte } = evaluations[1];
    expect(result).toEqual({
      step: 60,
      tokens: 60 * 8 * 32,
      loss: steps[59].loss,
      evaluation: { loss, bitsPerByte },
      best: { step, loss, bitsPerByte },
      stopped: false,
    });
    model.dispose();
  });

  it("two batches accumulated are one batch, though documents end in one of them", async () => {
    const text = textOf(600);
    const losses: number[][] = [];
    const ends: number[][] = [];
    for (const accumulate of [1, 3]) {
      const model = newModel(reference);
      const source = streams(text, { batch: 2, length: 11 });
      const told: number[] = [];
      const data = accumulate === 1 ? joined(source, 3) : source;
      await train({ ...optionsFor(model, data), accumulate, onProgress: ({ loss }) => told.push(loss) });
      losses.push(told);
      ends.push(weightsOf(model));
    }
    expect(losses[0]).toHaveLength(6);
    expectClose("losses", losses[1], losses[0], 1e-10);
    // Adam's division by tiny numbers magnifies rounding.
    expectClose("weights", ends[1], ends[0], 1e-6);
  });

  it("memory is the same after every step, with a carried state through a long document", async () => {
    const backend = await wasmBackend();
    const model = newModel(backend);
    const { tokens, bytes } = textOf(40_000);
    const data = streams({ tokens, bytes, documentStarts: Int32Array.of(0) }, { batch: 2, length: 50 });
    const live: number[] = [];
    let peak = 0;
    await train({
      ...optionsFor(model, data),
      steps: 40,
      carryState: true,
      accumulate: 2,
      onProgress({ step }) {
        live.push(backend.memory().liveBytes);
        if (step === 2) peak = backend.memory().peakBytes;
      },
    });
    expect(new Set(live.slice(1)).size).toBe(1);
    expect(live[0]).toBe(live[1]);
    expect(backend.memory().peakBytes).toBe(peak);
    const after = backend.memory().liveBytes;
    model.dispose();
    // Weights and gradients are what is left after the run, the optimizer and the carried state are gone.
    expect(after).toBeLessThan(live[0]);
    expect(backend.memory().liveBytes).toBe(0);
  });

  it("the carried state is what the batch before ended with", async () => {
    const losses: number[][] = [];
    for (const length of [30, 10]) {
      const model = newModel(reference);
      const data = streams({ ...textOf(400), documentStarts: Int32Array.of(0) }, { batch: 1, length });
      const told: number[] = [];
      // So small a rate changes nothing: three short batches must score as one long one.
      const options = { ...optionsFor(model, data), learningRate: 1e-12, weightDecay: 0, steps: 30 / length };
      await train({ ...options, carryState: true, onProgress: ({ loss }) => told.push(loss) });
      losses.push(told);
    }
    expect(losses[1].reduce((sum, loss) => sum + loss / 3, 0)).toBeCloseTo(losses[0][0], 8);
  });

  it("stops between two steps when asked", async () => {
    const model = newModel(await wasmBackend());
    const abort = new AbortController();
    const options = optionsFor(model, randomWindows(textOf(400), { batch: 1, length: 8, seed: 0 }));
    const onProgress = ({ step }: TrainProgress): void => (step === 2 ? abort.abort() : undefined);
    const result = await train({ ...options, signal: abort.signal, onProgress });
    expect(result).toMatchObject({ step: 2, stopped: true });
    model.dispose();
  });

  it("stops when the loss or the gradients are not finite, before they reach the weights", async () => {
    const model = newModel(await wasmBackend());
    const weight = model.backbone.normF.weight.tensor;
    weight.write(new Float32Array(16).fill(Number.NaN));
    const before = weightsOf(model);
    const options = optionsFor(model, randomWindows(textOf(400), { batch: 1, length: 8, seed: 0 }));
    await expect(train(options)).rejects.toThrow(DataError);
    await expect(train(options)).rejects.toThrow(
      /loss is NaN at step 1\. Try a lower learning rate \(it is 0\.01\).*No checkpoint was saved/,
    );
    expect(weightsOf(model)).toEqual(before);
    model.dispose();
  });

  it("refuses options that do not go together", async () => {
    const model = newModel(reference);
    const options = optionsFor(model, randomWindows(textOf(400), { batch: 1, length: 8, seed: 0 }));
    const saveModel = (): Promise<void> => Promise.resolve();
    const changes: [Partial<typeof options>, string][] = [
      [{ steps: 0 }, "steps"],
      [{ accumulate: 0 }, "accumulate"],
      [{ saveEvery: 1.5 }, "saveEvery"],
      [{ beta1: 2 }, "beta1"],
      [{ outputDir: "x" }, "saveModel"],
      [{ resume: true }, "outputDir"],
      [{ resume: true, outputDir: "x", saveModel }, "loadModel"],
      [{ evalEvery: 5 }, "evaluation"],
    ];
    for (const [change, field] of changes) {
      await expect(train({ ...options, ...change })).rejects.toThrow(ConfigError);
      await expect(train({ ...options, ...change })).rejects.toThrow(field);
    }
    const evaluation = { tokens: [1, 2, 3], bytes: 3, window: 4 };
    await expect(train({ ...options, evaluation })).rejects.toThrow(DataError);
  });

  it("carries no state that grows", async () => {
    const sizes = { dModel: 16, nLayer: 1, vocabSize: 256, headDim: 8 };
    const model = createModel("transformer", sizes, reference, createRandom(0)) as unknown as LanguageModel;
    const data = streams(textOf(400), { batch: 1, length: 8 });
    const training = train({ model, data, steps: 1, learningRate: 0.01, carryState: true });
    await expect(training).rejects.toThrow(/constant size.*without carryState/);
  });
});
