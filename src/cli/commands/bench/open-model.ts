// The model to measure: a checkpoint, or random weights of a known shape.
import type { Backend } from "../../../backends/backend.ts";
import { openDevice } from "../../../backends/index.ts";
import type { AnyModel } from "../../../models/auto.ts";
import { loadModel } from "../../../models/auto.ts";
import { noteThreads } from "../../device.ts";
import { openModel } from "../../load-model.ts";
import type { LoadFlags } from "../../options.ts";
import { defined } from "../../options.ts";
import { createBar } from "../../progress.ts";
import { createRandomModel } from "./random-model.ts";
import type { ShapeName } from "./shapes.ts";
import { shapeConfig } from "./shapes.ts";

export interface BenchModel {
  readonly model: AnyModel;
  readonly name: string;
  /** Of random weights. */
  readonly shape: ShapeName | undefined;
  /** Undefined for random weights, which no file holds. */
  readonly loadMs: number | undefined;
  dispose(): void;
}

export async function openBenchModel(flags: LoadFlags & { shape?: ShapeName }): Promise<BenchModel> {
  const backend = await openDevice(flags.device, defined({ threads: flags.threads }));
  noteThreads(backend, flags);
  if (flags.model !== undefined) return loadWeights(flags.model, backend, flags.dtype);
  const shape = flags.shape ?? "130m";
  const bar = createBar("random weights");
  try {
    const model = createRandomModel(shapeConfig(shape), backend, flags.dtype, (share) => bar.update(share));
    return { model, name: `random ${shape}`, shape, loadMs: undefined, dispose: () => model.dispose() };
  } finally {
    bar.end();
  }
}

/** The weights alone: tokens are random, so a tokenizer would only take memory. */
async function loadWeights(name: string, backend: Backend, dtype: LoadFlags["dtype"]): Promise<BenchModel> {
  const bar = createBar("loading");
  const started = performance.now();
  try {
    const onProgress = (share: number): void => bar.update(share);
    const model = await loadModel(await openModel(name), { backend, ...defined({ dtype }), onProgress });
    const loadMs = performance.now() - started;
    return { model, name, shape: undefined, loadMs, dispose: () => model.dispose() };
  } finally {
    bar.end();
  }
}
