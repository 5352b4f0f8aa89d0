// The public names of mamba.ts/models: every architecture by name, and stacks of mixers of one's own.
export { ARCHITECTURES, countParameters, createModel, findArchitecture } from "./architectures.ts";
export type { Architecture, ArchitectureOptions } from "./architectures.ts";
export { loadModel, saveModel } from "./auto.ts";
export type { AnyConfig, AnyModel } from "./auto.ts";
export { MambaModel } from "./mamba/model.ts";
export type { MixerConfig, SsmConfig, StackConfig } from "./stack/config.ts";
export { StackModel } from "./stack/model.ts";
export { StackState } from "./stack/state.ts";
