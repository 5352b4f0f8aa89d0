// Synthetic tasks with a model: learning one, examining it in chunks, checks between steps, and curricula that resume.
import * as fs from "node:fs/promises";
import * as os from "node:os";
import * as path from "node:path";
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, onGpu, reference, wasmBackend } from "../support/backends.ts";
import { tinyModel } from "../support/tiny-model.ts";
import type { BatchPosition, TaskBatches } from "../../src/data/index.ts";
import { createTask, taskBatches } from "../../src/data/index.ts";
import { openSource } from "../../src/io/index.ts";
import { loadMambaWeights, saveMamba } from "../../src/models/mamba/checkpoint.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";
import { evaluateTask, train } from "../../src/train/index.ts";

const HEADS = createTask("induction-heads");
const COPYING = createTask("selective-copying", { tokens: 4 });

describe("evaluateTask", () => {
  it("gives the same however examples are put side by side and cut", async () => {
    const model = tinyModel(await wasmBackend(), { vocabSize: 16 });
    for (const task of [HEADS, COPYING, createTask("mqar", { vocab: 16, pairs: 3 })]) {
      const options = { length: 150, examples: 6, seed: 4 };
      const { seconds: _, ...whole } = await evaluateTask(model, task, options);
      expect(whole.answers).toBeGreaterThanOrEqual(6);
      for (const how of [{ batch: 1 }, { chunk: 32 }, { batch: 4, chunk: 7 }]) {
        const cut = await evaluateTask(model, task, { ...options, ...how });
        expect(cut).toMatchObject({ ...whole, loss: expect.closeTo(whole.loss, 12) as number });
      }
    }
  });

  it.skipIf(!hasGpu)(onGpu("agrees on a GPU"), async () => {
    const options = { length: 40, examples: 3, seed: 2, chunk: 32 };
    const [gpu, host] = [await gpuBackend(), reference].map((backend) => tinyModel(backend, { vocabSize: 16 }));
    const expected = await evaluateTask(host, COPYING, options);
    const found = await evaluateTask(gpu, COPYING, options);
    expect(found.tokenAccuracy).toBe(expected.tokenAccuracy);
    expect(found.loss).toBeCloseTo(expected.loss, 4);
  });
});

it("induction heads are learned, and the check ends the run", async () => {
  const model = tinyModel(await wasmBackend(), { dModel: 32, nLayer: 2, vocabSize: 8 });
  const task = createTask("induction-heads", { vocab: 8 });
  const data = taskBatches(task, { batch: 16, length: 12, seed: 1 });
  const checked: number[] = [];
  const result = await train({
    model,
    data,
    steps: 2000,
    learningRate: 4e-3,
    schedule: "constant",
    weightDecay: 0,
    checkEvery: 100,
    check: async (step) => {
      checked.push(step);
      const { tokenAccuracy } = await evaluateTask(model, task, { length: 12, examples: 100, seed: step });
      return tokenAccuracy > 0.99 ? "stop" : "go on";
    },
  });
  expect(result.stopped).toBe(true);
  expect(result.step).toBe(checked.at(-1));
  expect(checked).toEqual(checked.map((_, i) => 100 * (i + 1)));
  const { tokenAccuracy } = await evaluateTask(model, task, { length: 12, examples: 200, seed: 99_999 });
  expect(tokenAccuracy).toBeGreaterThan(0.97);
});

it("a curriculum resumes where it was, bit for bit", async () => {
  const backend = await wasmBackend();
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "mamba-tasks-"));
  const run = async (
    name: string,
    steps: number,
    resume = false,
  ): Promise<{ weights: number[]; checked: number[] }> => {
    const model: MambaModel = tinyModel(backend, { dModel: 16, vocabSize: 16, dState: 4 });
    const checked: number[] = [];
    let data: TaskBatches | undefined;
    await train({
      model,
      data: (position?: BatchPosition) => (data = taskBatches(COPYING, { batch: 2, length: 8, seed: 1, position })),
      steps,
      learningRate: 0.01,
      schedule: "constant",
      checkEvery: 2,
      saveEvery: 2,
      check: async (step) => {
        checked.push(step);
        if (step === 4) data!.length = 16;
        return "go on";
      },
      outputDir: path.join(root, name),
      saveModel: async (folder) => saveMamba(model, folder),
      loadModel: async (folder) => loadMambaWeights(model, await openSource(folder)),
      resume,
    });
    expect(data!.length).toBe(steps >= 4 ? 16 : 8);
    const weights = [...(await model.backbone.embeddings.weight.tensor.read())];
    model.dispose();
    return { weights, checked };
  };
  try {
    const whole = await run("whole", 7);
    expect(whole.checked).toEqual([2, 4, 6, 7]);
    await run("broken", 4);
    const resumed = await run("broken", 7, true);
    expect(resumed.checked).toEqual([6, 7]);
    expect(resumed.weights).toEqual(whole.weights);
  } finally {
    await fs.rm(root, { recursive: true });
  }
});
