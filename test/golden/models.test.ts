// Whole models against golden vectors: logits, loss and every parameter's gradient (float64 PyTorch, and transformers).
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { complete } from "../../src/generate/generate.ts";
import { openSource } from "../../src/io/index.ts";
import type { AnyModel } from "../../src/models/auto.ts";
import { loadModel } from "../../src/models/auto.ts";
import { mambaConfig } from "../../src/models/mamba/config.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";
import { gptNeoxLayout } from "../../src/models/stack/gpt-neox.ts";
import { StackModel } from "../../src/models/stack/model.ts";
import type { LanguageModel } from "../../src/nn/language-model.ts";
import { crossEntropy } from "../../src/ops/cross-entropy/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import { createByteTokenizer } from "../../src/tokenizers/bytes.ts";
import { gpuBackend, hasGpu, onGpu, reference, wasmBackend } from "../support/backends.ts";
import { expectClose } from "../support/compare.ts";
import type { Golden } from "../support/fixtures.ts";
import { fixturePath, readGolden } from "../support/fixtures.ts";

interface Result {
  logits: number[];
  loss: number;
  grads: Map<string, number[]>;
}

/** Forward and backward of next-token loss, all from a fresh state. */
async function lossAndGradients(
  model: AnyModel,
  backend: Backend,
  ids: Golden,
  labels: ArrayLike<number>,
): Promise<Result> {
  const parameters = model.namedParameters();
  for (const parameter of parameters.values()) parameter.clearGrad();
  const { logits, loss } = scope(() => {
    const tape = new Tape(parameters.values());
    const tokens = tensorFrom(backend, ids.data, ids.shape, "i32");
    const targets = tensorFrom(backend, Int32Array.from(labels), ids.shape, "i32");
    const results = tape.record(() => {
      const { logits } = (model as LanguageModel).forward(tokens, model.initialState(ids.shape[0]));
      return { logits, loss: crossEntropy({ logits, targets }, { ignoreIndex: -100 }).loss };
    });
    tape.backward(results.loss);
    return results;
  });
  const read = async (tensor: Tensor): Promise<number[]> => Array.from(await tensor.readNative());
  const grads = new Map<string, number[]>();
  for (const [name, { grad }] of parameters) grads.set(name, await read(grad!));
  const result = { logits: await read(logits), loss: (await read(loss))[0], grads };
  logits.dispose();
  loss.dispose();
  return result;
}

interface Device {
  name: string;
  open: () => Promise<Backend>;
  tolerance: number;
  isAbsent?: boolean;
}

const DEVICES: readonly Device[] = [
  { name: "reference", open: () => Promise.resolve(reference), tolerance: 1e-6 },
  { name: "wasm relaxed", open: () => wasmBackend("relaxed"), tolerance: 1e-4 },
  { name: "wasm simd", open: () => wasmBackend("simd"), tolerance: 1e-4 },
  { name: onGpu("webgpu"), open: () => gpuBackend(), tolerance: 1e-4, isAbsent: !hasGpu },
];

for (const { name, open, tolerance, isAbsent = false } of DEVICES)
  describe.skipIf(isAbsent)(name, () => {
    it.each(["mamba1_tiny", "mamba1_tiny_n16_r3"])(
      `%s: logits, loss and gradients within ${tolerance}`,
      async (fixture) => {
        const backend = await open();
        const { tensors, metadata } = await readGolden(`golden/${fixture}.safetensors`);
        const c = JSON.parse(metadata.config) as Record<string, number>;
        const model = new MambaModel(
          mambaConfig({
            dModel: c.d_model,
            nLayer: c.n_layer,
            vocabSize: c.vocab,
            dState: c.d_state,
            dtRank: c.dt_rank,
          }),
        );
        const fileName = (key: string): string => key.replace("embeddings", "embedding");
        for (const [key, parameter] of model.namedParameters())
          parameter.assign(tensorFrom(backend, tensors.get(fileName(key))!.data, parameter.shape));
        const result = await lossAndGradients(
          model,
          backend,
          tensors.get("__fx.input_ids")!,
          tensors.get("__fx.labels")!.data,
        );
        expectClose("logits", result.logits, tensors.get("__fx.logits")!.data, tolerance);
        expectClose("loss", [result.loss], tensors.get("__fx.loss")!.data, tolerance);
        for (const [key, grad] of result.grads)
          expectClose(`grad.${key}`, grad, tensors.get(`__fx.grad.${fileName(key)}`)!.data, tolerance);
        model.dispose();
      },
    );

    it.each(["tiny-mamba", "tiny-gpt-neox"])("%s: the greedy tokens of transformers", async (name) => {
      const model = await loadModel(await openSource(fixturePath(name)), { backend: await open() });
      const { tensors } = await readGolden(`${name}/expected.safetensors`);
      const greedy = Array.from(tensors.get("greedy")!.data);
      const prompt = greedy.slice(0, tensors.get("input_ids")!.shape[1]);
      const options = { temperature: 0, maxTokens: greedy.length - prompt.length };
      const [{ tokens }] = await complete(model as LanguageModel, createByteTokenizer(), [prompt], options);
      expect(tokens).toEqual(greedy.slice(prompt.length));
      model.dispose();
    });

    it.each(["tiny-mamba", "tiny-gpt-neox"])("%s: what transformers computed", async (name) => {
      const backend = await open();
      const model = await loadModel(await openSource(fixturePath(name)), { backend, trainable: true });
      const { tensors } = await readGolden(`${name}/expected.safetensors`);
      const expected = JSON.parse(await readFile(fixturePath(`${name}/expected.json`), "utf8")) as {
        loss: number;
        grad_norms: Record<string, number>;
      };
      const ids = tensors.get("input_ids")!;
      const [batch, length] = ids.shape;
      const labels = Array.from(ids.data, (_, i) => ((i + 1) % length === 0 ? -100 : ids.data[i + 1]));
      const result = await lossAndGradients(model, backend, ids, labels);
      expect(batch).toBe(2);
      // transformers computed in float32: that allows 1e-4 on every device.
      expectClose("logits", result.logits, tensors.get("logits")!.data, 1e-4);
      expectClose("loss", [result.loss], [expected.loss], 1e-4);
      for (const [key, norm] of Object.entries(expected.grad_norms))
        expectClose(`norm of grad.${key}`, [Math.hypot(...result.grads.get(parameterOf(model, key))!)], [norm], 1e-4);
      model.dispose();
    });
  });

/** The parameter that a tensor of a file is, perhaps in another order of rows. */
function parameterOf(model: AnyModel, name: string): string {
  if (!(model instanceof StackModel)) return name;
  const { tensors, canonicalName } = gptNeoxLayout(model);
  return tensors.get(canonicalName!(name))!.pieces[0].parameter;
}
