// sampleTokens: the next token of each row chosen on the GPU, so that decoding waits for nobody.
// Sources: as src/generate/sampling.ts, whose order it keeps.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { sampleGreedy } from "./webgpu-kernel.ts";

/** How to choose, all options given: see SamplingOptions in src/generate/sampling.ts. */
export interface SampleSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  /** Ids from here on are never chosen. */
  readonly vocabSize: number;
}

/** What {@link sampleTokens} reads and writes. */
export interface SampleTensors {
  /** f32 `[batch, 1, vocabSize]` */
  readonly logits: Tensor;
  /** i32 `[batch, 4]`: the row's seed (low word, high word), and how many tokens were chosen, which rises by one. */
  readonly draws: Tensor;
  /** i32 `[batch, ceil(vocabSize / 32)]`, a bit an id: what the repetition penalty counts; the choice is added. */
  readonly seen: Tensor | undefined;
  /** i32 `[batch, 1]`: becomes the choice. */
  readonly tokens: Tensor;
  /** i32 `[slots, batch]`: the choice goes to row `position mod slots`; a negative number is one of {@link sampleFailure}. */
  readonly ring: Tensor;
}

/**
 * Chooses a token for every row of logits: repetition penalty, top-k, temperature, top-p, min-p, one draw. Greedy
 * (temperature 0) is the largest logit, the lowest id among equals, as on the CPU.
 */
export function sampleTokens(backend: WebGpuBackend, tensors: SampleTensors, settings: SampleSettings): void {
  const { logits, draws, seen, tokens, ring } = tensors;
  const penalty = settings.repetitionPenalty !== 1 && seen !== undefined;
  const threads = Math.min(1024, backend.device.limits.maxComputeInvocationsPerWorkgroup);
  const kernel = sampleGreedy({ threads, penalty });
  const params = {
    count: Math.min(logits.columns, settings.vocabSize),
    slots: ring.rows,
    penalty: settings.repetitionPenalty,
  };
  backend.dispatch(kernel, { logits, draws, ...(penalty ? { seen } : {}), tokens, ring }, params, [logits.rows]);
}

/** What a negative number in the ring means. */
export function sampleFailure(told: number): { readonly nan: number } | "all -Infinity" {
  return told === -1 ? "all -Infinity" : { nan: -2 - told };
}
