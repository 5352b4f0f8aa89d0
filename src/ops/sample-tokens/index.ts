// sampleTokens: the next token of each row chosen on the GPU, so that decoding waits for nobody.
// Sources: as src/generate/sampling.ts, whose order it keeps.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { sampleDraw, sampleGreedy } from "./webgpu-kernel.ts";

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
  const { temperature, topK, topP, minP, repetitionPenalty } = settings;
  const { maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupStorageSize } = backend.device.limits;
  const isLarge = maxComputeInvocationsPerWorkgroup >= 1024 && maxComputeWorkgroupStorageSize >= 2 ** 15;
  const threads = backend.about.isSoftware ? 64 : isLarge ? 1024 : 256;
  const base = {
    threads,
    penalty: repetitionPenalty !== 1 && seen !== undefined,
    wide: logits.rowStride % 4 === 0 && logits.offset % 4 === 0,
  };
  const buffers = { logits, draws, ...(base.penalty ? { seen: seen! } : {}), tokens, ring };
  const params = {
    count: Math.min(logits.columns, settings.vocabSize),
    slots: ring.rows,
    penalty: repetitionPenalty,
  };
  if (temperature === 0) return backend.dispatch(sampleGreedy(base), buffers, params, [logits.rows]);
  const spec = { ...base, listed: isLarge ? 256 : 128 };
  const share = topP < 1 ? Math.min(2 ** 32 - 1, Math.max(1, Math.round(topP * 2 ** 32))) : 0;
  const choice = { temperature, top_k: topK < params.count ? topK : 0, top_p_bits: share, min_p: minP };
  backend.dispatch(sampleDraw(spec), buffers, { ...params, ...choice }, [logits.rows]);
}

/** What a negative number in the ring means. */
export function sampleFailure(told: number): { readonly nan: number } | "all -Infinity" {
  return told === -1 ? "all -Infinity" : { nan: -2 - told };
}
