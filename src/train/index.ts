// The training layer: the trainer, what it is made of, and evaluation.
export { evaluate } from "./evaluate.ts";
export type { EvaluateOptions, EvaluateProgress, Evaluation } from "./evaluate.ts";
export { AdamW } from "./optimizer.ts";
export type { AdamWOptions } from "./optimizer.ts";
export type {
  EvaluationData,
  EvaluationResult,
  Precision,
  TrainOptions,
  TrainProgress,
  TrainResult,
} from "./options.ts";
export type { RunState } from "./run-state.ts";
export { learningRateAt } from "./schedule.ts";
export type { Schedule, ScheduleOptions } from "./schedule.ts";
export { evaluateTask } from "./task-accuracy.ts";
export type { TaskAccuracy, TaskEvaluationOptions, TaskEvaluationProgress } from "./task-accuracy.ts";
export { train } from "./trainer.ts";
