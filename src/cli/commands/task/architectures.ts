// Models for tasks by their architecture. To be replaced by models/architectures.ts, which has the same names.
import type { Backend } from "../../../backends/backend.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { Random } from "../../../core/random.ts";
import { mambaConfig } from "../../../models/mamba/config.ts";
import { initializeMamba } from "../../../models/mamba/init.ts";
import { MambaModel } from "../../../models/mamba/model.ts";
import type { LanguageModel } from "../../../nn/language-model.ts";
import type { Module } from "../../../nn/module.ts";

/** Sizes that all architectures have, and what one has of its own. */
export interface ArchitectureOptions {
  readonly dModel: number;
  readonly nLayer: number;
  readonly vocabSize: number;
  readonly [option: string]: unknown;
}

export const ARCHITECTURES: readonly { readonly name: string; readonly description: string }[] = [
  { name: "mamba", description: "Mamba-1, the selective state-space model" },
];

/** A new model with its first weights. */
export function createModel(
  architecture: string,
  options: ArchitectureOptions,
  backend: Backend,
  random: Random,
): LanguageModel & Module {
  if (architecture !== "mamba") throw new ConfigError(`createModel: there is no architecture ${architecture}.`);
  const model = new MambaModel(mambaConfig(options, "createModel"));
  initializeMamba(model, backend, random);
  return model;
}
