// A small Mamba with random weights on a given backend, for tests of what is built on top of it.
import type { Backend } from "../../src/backends/backend.ts";
import { createRandom } from "../../src/core/random.ts";
import type { MambaOptions } from "../../src/models/mamba/config.ts";
import { mambaConfig } from "../../src/models/mamba/config.ts";
import { initializeMamba } from "../../src/models/mamba/init.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";

export function tinyModel(backend: Backend, options: Partial<MambaOptions> = {}, seed = 5): MambaModel {
  const model = new MambaModel(mambaConfig({ dModel: 24, nLayer: 2, vocabSize: 256, dState: 8, ...options }));
  initializeMamba(model, backend, createRandom(seed));
  return model;
}
