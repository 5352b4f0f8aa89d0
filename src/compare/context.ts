// What all parts of a comparison work with.
import type { Backend } from "../backends/backend.ts";
import { createRandom } from "../core/random.ts";
import { openSource } from "../io/index.ts";
import { createModel } from "../models/architectures.ts";
import type { AnyModel } from "../models/auto.ts";
import { loadModelWeights } from "../models/auto.ts";
import type { CompareData } from "./data.ts";
import type { Limit } from "./limit.ts";
import type { PlannedModel, Resolved } from "./plan.ts";

export interface Context {
  readonly backend: Backend;
  readonly data: CompareData;
  readonly how: Resolved;
  readonly signal: AbortSignal | undefined;
  /** How much of the part under way is done, and what else there is to say. */
  readonly tell: (share: number, note?: string) => void;
  /** A line for people. */
  readonly line: (text: string) => void;
}

export function limitOf({ how, signal }: Context): Limit {
  return { seconds: how.pointSeconds, signal };
}

/** A model with its first weights: equal seeds give equal weights. */
export function newModel({ backend, data, how }: Context, { architecture, sizes }: PlannedModel): AnyModel {
  return createModel(architecture, { ...sizes, vocabSize: data.vocabSize }, backend, createRandom(how.seed));
}

/** A model with the weights of a folder. */
export async function savedModel(context: Context, planned: PlannedModel, folder: string): Promise<AnyModel> {
  const model = newModel(context, planned);
  try {
    await loadModelWeights(model, await openSource(folder));
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Powers of two from `least` to `most`, and `most` itself. */
export function lengthsBetween(least: number, most: number): number[] {
  const lengths: number[] = [];
  for (let length = least; length < most; length *= 2) lengths.push(length);
  return [...lengths, most];
}
