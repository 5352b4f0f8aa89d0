// The model to measure: a checkpoint, or random weights of a known shape.
import { openDevice } from "../../../backends/index.ts";
import type { MambaModel } from "../../../models/mamba/model.ts";
import { loadModel } from "../../load-model.ts";
import type { LoadFlags } from "../../options.ts";
import { defined } from "../../options.ts";
import { createBar } from "../../progress.ts";
import { createRandomModel } from "./random-model.ts";
import type { ShapeName } from "./shapes.ts";
import { shapeConfig } from "./shapes.ts";

export interface BenchModel {
  readonly model: MambaModel;
  readonly name: string;
  /** Of random weights. */
  readonly shape: ShapeName | undefined;
  /** Undefined for random weights, which no file holds. */
  readonly loadMs: number | undefined;
  dispose(): void;
}

export async function openBenchModel(flags: LoadFlags & { shape?: ShapeName }): Promise<BenchModel> {
  if (flags.model !== undefined) {
    const { mamba, loadMs } = await loadModel(flags);
    return { model: mamba.model, name: flags.model, shape: undefined, loadMs, dispose: () => mamba.dispose() };
  }
  const shape = flags.shape ?? "130m";
  const backend = await openDevice(flags.device, defined({ threads: flags.threads }));
  const bar = createBar("random weights");
  try {
    const model = createRandomModel(shapeConfig(shape), backend, flags.dtype, (share) => bar.update(share));
    return { model, name: `random ${shape}`, shape, loadMs: undefined, dispose: () => model.dispose() };
  } finally {
    bar.end();
  }
}
