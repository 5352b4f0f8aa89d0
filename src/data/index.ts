// The data layer: text to tokens, tokens to batches.
export { evaluationWindows, IGNORED, randomWindows, streams } from "./batches.ts";
export type { Batch, BatchPosition, BatchShape, BatchSource } from "./batches.ts";
export { decodeText, loadTextFiles, splitDocuments, tokenizeTexts } from "./text.ts";
export type { TextOptions } from "./text.ts";
export { joinDocuments, splitEvaluation } from "./token-data.ts";
export type { TokenData, Tokens } from "./token-data.ts";
export { createTask, taskBatch, taskBatches, taskExample, TASKS } from "./tasks/index.ts";
export type {
  SyntheticTask,
  TaskBatches,
  TaskBatchesOptions,
  TaskExample,
  TaskKind,
  TaskOptions,
  TaskTarget,
} from "./tasks/index.ts";
