// Synthetic tasks: what the papers examine small models with.
export { createTask, TASKS } from "./registry.ts";
export { taskBatch, taskBatches } from "./task-batches.ts";
export type { TaskBatches, TaskBatchesOptions } from "./task-batches.ts";
export { taskExample } from "./task.ts";
export type { SyntheticTask, TaskExample, TaskKind, TaskOptions, TaskTarget } from "./task.ts";
