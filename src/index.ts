// The public names of mamba.ts.
export { Mamba } from "./mamba.ts";
export { createTextModel, loadTextModel, TextModel } from "./text-model.ts";
export type { CreateModelOptions, DeviceOptions, LoadModelOptions, TokenIds } from "./text-model.ts";
export type { GeneratedToken, GenerateOptions, GenerationResult, StopReason } from "./generate/generate.ts";
export type { SamplingOptions } from "./generate/sampling.ts";
export { createSampler } from "./generate/sampling.ts";
export { openDevice } from "./backends/index.ts";
export type { Device } from "./backends/index.ts";
export type { Backend, MemoryAccount } from "./backends/backend.ts";
export { MambaModel } from "./models/mamba/model.ts";
export { MambaState } from "./models/mamba/state.ts";
export type { MambaConfig, MambaOptions } from "./models/mamba/config.ts";
export { mambaConfig } from "./models/mamba/config.ts";
export type { WeightDType } from "./models/checkpoint/load.ts";
export type { ForwardOptions, ForwardResult, LanguageModel, ModelState } from "./nn/language-model.ts";
export { Tensor, tensorFrom, zeros } from "./tensor/tensor.ts";
export { Tape } from "./tensor/tape.ts";
export { Parameter } from "./tensor/parameter.ts";
export { keep, scope } from "./tensor/scope.ts";
export { createRandom } from "./core/random.ts";
export type { Random } from "./core/random.ts";
export { httpSource, memorySource, openSource } from "./io/index.ts";
export type { FileSource } from "./io/index.ts";
export type { Tokenizer } from "./tokenizers/tokenizer.ts";
export { createByteTokenizer } from "./tokenizers/bytes.ts";
export { createTokenizer } from "./tokenizers/hugging-face.ts";
export { train } from "./train/index.ts";
export type { TrainOptions, TrainProgress, TrainResult } from "./train/index.ts";
export type { Evaluation } from "./train/evaluate.ts";
export type { BatchSource, TokenData } from "./data/batches.ts";
export { loadTextFiles, tokenizeTexts } from "./data/text.ts";
export { randomWindows, streams } from "./data/batches.ts";
export { createTask, taskBatches } from "./data/tasks/index.ts";
export type { SyntheticTask, TaskBatches, TaskOptions } from "./data/tasks/index.ts";
export { evaluateTask } from "./train/task-accuracy.ts";
export type { TaskAccuracy, TaskEvaluationOptions } from "./train/task-accuracy.ts";
export {
  BackendError,
  CheckpointError,
  ConfigError,
  DataError,
  DTypeError,
  MambaError,
  ShapeError,
  UsageError,
} from "./core/errors.ts";
