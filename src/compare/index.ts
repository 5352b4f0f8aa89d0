// Comparing architectures under the same conditions: from a budget to a report. Node only.
export { compare } from "./compare.ts";
export { MEASUREMENTS } from "./options.ts";
export type { CompareOptions, CompareProgress, CompareResult, CompareSettings, Measurement } from "./options.ts";
export { LEARNING_RATES, learningRateOf } from "./recipes.ts";
export { chooseSizes } from "./sizes.ts";
export type { ChosenSizes, ModelSizes } from "./sizes.ts";
