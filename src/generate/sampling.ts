// Choosing the next token from logits: repetition penalty, top-k, temperature, top-p, min-p, then one seeded draw.
// Sources: Holtzman et al. 2020 (top-p), Fan et al. 2018 (top-k), Nguyen et al. 2024 (min-p), Keskar et al. 2019 (penalty).

import { ConfigError, DataError, UsageError } from "../core/errors.ts";
import type { Random } from "../core/random.ts";
import { createRandom } from "../core/random.ts";
import { SeenTokens } from "./sampling-seen.ts";
import { Candidates } from "./sampling-select.ts";

/** How to choose. Whatever is left out changes nothing. */
export interface SamplingOptions {
  /** Logits are divided by it; >= 0. 0 is greedy: the largest logit, the lowest id among equals, no random number used. Default 1. */
  temperature?: number | undefined;
  /** Only the `topK` largest logits (ties: lower id first); an integer >= 0, 0 is off. */
  topK?: number | undefined;
  /** Only the fewest tokens whose probabilities, largest first, sum to at least `topP`; in (0, 1], 1 is off. */
  topP?: number | undefined;
  /** Only tokens whose probability is at least `minP` times the largest one; in [0, 1], 0 is off. */
  minP?: number | undefined;
  /** Logits of tokens seen in prompt and output, each once: divided by it when positive, multiplied when negative; > 0, 1 is off. */
  repetitionPenalty?: number | undefined;
  /**
   * Seed of the draws, any safe integer. Default 0. A seed gives the same tokens again on one device; the webgpu device
   * draws from another generator than the others (see src/ops/sample-tokens).
   */
  seed?: number | undefined;
  /** Ids from here on (padding of the vocabulary) are never chosen. Default: every logit counts. */
  vocabSize?: number | undefined;
  /** Continue where another sampler stood: its `state`. The seed is then not used; tokens are chosen on the host. */
  samplerState?: SamplerState | undefined;
}

/** Where a sampler stands, as plain numbers that survive JSON. */
export interface SamplerState {
  /** State of the random generator. */
  readonly random: readonly number[];
  /** Ids seen so far, ascending, each once. */
  readonly seen: readonly number[];
}

/** Chooses tokens, remembers which it was told of. One sampler serves one sequence; its memory does not grow with length. */
export interface Sampler {
  /**
   * Chooses a token. `previous`, if given, are tokens to observe first. One uniform number is drawn, none when greedy.
   * @param logits [vocab], any finite or infinite numbers; not changed. +Infinity takes all probability, -Infinity none.
   * @throws DataError when a logit is NaN or all are -Infinity, or when there are none.
   */
  sample(logits: Float32Array, previous?: ArrayLike<number>): number;
  /** Tells of a token of the prompt or the output: the repetition penalty counts it from now on. */
  observe(id: number): void;
  /** A copy of where this sampler stands, for `samplerState`. */
  readonly state: SamplerState;
}

/** All options, checked. */
export interface SamplingSettings {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly vocabSize: number;
}

/**
 * Makes a sampler. The order is: repetition penalty, top-k, temperature, top-p, min-p, one uniform draw.
 * The same seed and logits give the same tokens on every platform: only IEEE basic arithmetic is used.
 * @throws UsageError when an option is out of its range, ConfigError for a `samplerState` that no sampler has.
 */
export function createSampler(options: SamplingOptions = {}): Sampler {
  const settings = samplingSettings(options);
  const saved = options.samplerState;
  if (saved !== undefined && !(Array.isArray(saved.random) && Array.isArray(saved.seen))) {
    throw new ConfigError(
      "sampling: samplerState must hold `random` and `seen`, two lists of numbers. Pass the `state` of a sampler.",
    );
  }
  const random = createRandom(saved?.random ?? options.seed ?? 0);
  return new TokenSampler(settings, random, saved?.seen ?? []);
}

class TokenSampler implements Sampler {
  readonly #settings: SamplingSettings;
  readonly #random: Random;
  readonly #seen = new SeenTokens();
  readonly #candidates = new Candidates();
  #scores = new Float32Array(0);

  constructor(settings: SamplingSettings, random: Random, seen: readonly number[]) {
    this.#settings = settings;
    this.#random = random;
    for (const id of seen) this.#seen.add(id);
  }

  get state(): SamplerState {
    return { random: this.#random.state, seen: this.#seen.toArray() };
  }

  observe(id: number): void {
    this.#seen.add(id);
  }

  sample(logits: Float32Array, previous?: ArrayLike<number>): number {
    if (previous !== undefined) for (let i = 0; i < previous.length; i++) this.#seen.add(previous[i]);
    const { temperature, topK, topP, minP } = this.#settings;
    const scores = this.#penalised(logits);
    const { best, smallest } = range(scores);
    if (temperature === 0) return best;
    const candidates = this.#candidates;
    candidates.select(scores, topK > 0 && topK < scores.length ? topK : scores.length);
    candidates.weigh(scores, scores[best], smallest, temperature);
    if (topP < 1) candidates.keepTop(scores, topP);
    if (minP > 0) candidates.keepAtLeast(minP);
    return candidates.draw(this.#random.uniform());
  }

  /** The logits that count, with the penalty; a view of `logits` where there is no penalty, else the workspace. */
  #penalised(logits: Float32Array): Float32Array {
    const { vocabSize, repetitionPenalty } = this.#settings;
    const length = Math.min(logits.length, vocabSize);
    const counted = length === logits.length ? logits : logits.subarray(0, length);
    if (repetitionPenalty === 1) return counted;
    if (this.#scores.length !== length) this.#scores = new Float32Array(length);
    const scores = this.#scores;
    scores.set(counted);
    this.#seen.forEachBelow(length, (id) => {
      const score = scores[id];
      scores[id] = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
    });
    return scores;
  }
}

/** Index of the largest score, the lowest among equals, and the smallest score. */
function range(scores: Float32Array): { best: number; smallest: number } {
  let best = -1;
  let largest = Number.NEGATIVE_INFINITY;
  let smallest = Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id];
    // 0 * score is NaN for NaN and for infinities only: one cheap test after the loop finds both.
    sum += 0 * score;
    if (score < smallest) smallest = score;
    if (score > largest) {
      largest = score;
      best = id;
    }
  }
  if (sum !== 0) {
    const bad = scores.findIndex((score) => Number.isNaN(score));
    if (bad >= 0) throw nanError(bad, scores.length);
  }
  if (best < 0) throw noLogitError(scores.length);
  return { best, smallest };
}

/** For a logit that is no number. */
export function nanError(id: number, count: number): DataError {
  return new DataError(
    `sampling: logits must be numbers, got NaN for token ${id} of ${count}. The model's weights or its input hold NaN or overflow: check the checkpoint.`,
  );
}

/** For logits that leave nothing to choose. */
export function noLogitError(count: number): DataError {
  const got = count === 0 ? "no logits" : `${count} times -Infinity`;
  return new DataError(
    `sampling: at least one logit must be above -Infinity, got ${got}. Check the model's output and vocabSize.`,
  );
}

/** The options with their defaults. @throws UsageError when one is out of its range. */
export function samplingSettings(options: SamplingOptions): SamplingSettings {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const { vocabSize = Number.MAX_SAFE_INTEGER } = options;
  const isCount = (value: number, least: number): boolean => Number.isSafeInteger(value) && value >= least;
  check(
    "temperature",
    temperature,
    Number.isFinite(temperature) && temperature >= 0,
    "a number >= 0",
    "0 is greedy, 1 leaves the model's probabilities",
  );
  check("topK", topK, isCount(topK, 0), "an integer >= 0", "0 switches it off");
  check("topP", topP, topP > 0 && topP <= 1, "above 0 and at most 1", "1 switches it off");
  check("minP", minP, minP >= 0 && minP <= 1, "from 0 to 1", "0 switches it off");
  check(
    "repetitionPenalty",
    repetitionPenalty,
    repetitionPenalty > 0 && Number.isFinite(repetitionPenalty),
    "a number > 0",
    "1 switches it off, 1.1 is mild",
  );
  check("vocabSize", vocabSize, isCount(vocabSize, 1), "an integer >= 1", "leave it out to count every logit");
  return { temperature, topK, topP, minP, repetitionPenalty, vocabSize };
}

function check(name: string, value: number, isInRange: boolean, rule: string, remedy: string): void {
  if (isInRange && typeof value === "number") return;
  throw new UsageError(`sampling: ${name} must be ${rule}, got ${String(value)}. Hint: ${remedy}.`);
}
