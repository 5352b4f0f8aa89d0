// GpuDecoder: tokens chosen on the GPU, some of them ahead of the host, so that neither waits for the other.
import type { Plan } from "../backends/backend.ts";
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { SampleSettings } from "../ops/sample-tokens/index.ts";
import { sampleFailure, sampleTokens } from "../ops/sample-tokens/index.ts";
import { keep, scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { copyInto, emptyTensor, tensorFrom } from "../tensor/tensor.ts";
import { ROOM } from "./session.ts";
import { nanError, noLogitError } from "./sampling.ts";

/** Places of the ring of chosen tokens: as many as go to the GPU at once. */
const SLOTS = 32;
/** Submissions on their way: while one is read, the GPU works on the next. */
const IN_FLIGHT = 2;
/** A submission takes about this long at the most, so that tokens come in a steady stream. */
const SUBMISSION_MS = 20;

/** A sequence when decoding begins. */
export interface DecoderRow {
  readonly seed: number;
  /** Ids of the prompt, for the repetition penalty. */
  readonly prompt: Int32Array;
}

export interface GpuDecoderOptions<State extends ModelState> {
  /** Taken over. */
  readonly state: State;
  /** f32 `[batch, 1, vocabSize]`, for the first token; taken over. */
  readonly logits: Tensor;
  readonly rows: readonly DecoderRow[];
  readonly settings: SampleSettings;
  /** Tokens a row at the most; nothing is computed beyond. */
  readonly limit: number;
  /** Whether {@link GpuDecoder.stateAfter} will be asked for. */
  readonly keepsStates: boolean;
}

/** Tokens that were sent for, of all rows that were at work then. */
interface Submission<State> {
  readonly count: number;
  /** Which row has which column. */
  readonly keys: readonly number[];
  /** Position by position, `keys.length` tokens each. */
  readonly tokens: Promise<Int32Array>;
  /** The state before, after `consumed` tokens. */
  readonly before: { readonly state: State; readonly consumed: number } | undefined;
}

/** Per-row memory of the GPU beside the state. */
interface RowTensors {
  readonly tokens: Tensor;
  readonly draws: Tensor;
  readonly seen: Tensor | undefined;
  readonly ring: Tensor;
}

/** Decodes a batch. Rows are named by their place in the first batch; those that the caller drops are left out by and by. */
export class GpuDecoder<State extends ModelState> {
  readonly #model: LanguageModel<State>;
  readonly #backend: WebGpuBackend;
  readonly #settings: SampleSettings;
  readonly #limit: number;
  readonly #keepsStates: boolean;
  #state: State;
  #rows: RowTensors;
  #keys: readonly number[];
  #firstLogits: Tensor | undefined;
  #plan: Plan | undefined;
  #isWarm = false;
  /** Positions that were sent for. */
  #sent = 0;
  readonly #waiting: Submission<State>[] = [];
  #current: { readonly submission: Submission<State>; readonly tokens: Int32Array; next: number } | undefined;
  /** Tokens of the next submission. */
  #pace = 1;
  #lastArrival = 0;

  constructor(model: LanguageModel<State>, options: GpuDecoderOptions<State>) {
    this.#model = model;
    this.#backend = model.backend as WebGpuBackend;
    this.#settings = options.settings;
    this.#limit = options.limit;
    this.#keepsStates = options.keepsStates;
    this.#state = options.state;
    this.#firstLogits = keep(options.logits);
    this.#keys = options.rows.map((_, i) => i);
    try {
      this.#rows = makeRows(this.#backend, options.rows, options.settings, model.config.vocabSize);
    } catch (error) {
      this.#state.dispose();
      this.#firstLogits.dispose();
      throw error;
    }
  }

  /**
   * The next token of each row named, in their order. Rows that are not named any more are given up.
   * @throws DataError for logits that leave no choice
   */
  async next(keys: readonly number[]): Promise<Int32Array> {
    this.#sendAhead(keys);
    if (!this.#current || this.#current.next === this.#current.submission.count) {
      this.#forget(this.#current?.submission);
      const submission = this.#waiting.shift()!;
      this.#current = { submission, tokens: await submission.tokens, next: 0 };
      this.#measure(submission.count);
      this.#sendAhead(keys);
    }
    const { submission, tokens } = this.#current;
    const first = this.#current.next++ * submission.keys.length;
    return Int32Array.from(keys, (key) => this.#check(tokens[first + submission.keys.indexOf(key)]));
  }

  /**
   * The state after these tokens, which {@link next} gave for the only row: it may have gone on, then an older state takes
   * the last of them again. Valid until dispose().
   */
  stateAfter(tokens: readonly number[]): State {
    let consumed = Math.max(0, this.#sent - 1);
    if (consumed > tokens.length) {
      const submissions = [this.#current?.submission, ...this.#waiting].filter((each) => each !== undefined);
      const { before } = submissions.findLast((each) => each.before!.consumed <= tokens.length)!;
      this.#dropPlan();
      this.#state.dispose();
      this.#state = before!.state.fork() as State;
      consumed = before!.consumed;
    }
    const missing = tokens.slice(consumed);
    if (missing.length > 0)
      scope(() => {
        const ids = tensorFrom(this.#backend, missing, [1, missing.length], "i32");
        this.#model.forward(ids, this.#state, { logits: "last", inPlace: true, checked: false });
      });
    return this.#state;
  }

  dispose(): void {
    this.#dropPlan();
    this.#firstLogits?.dispose();
    this.#state.dispose();
    this.#forget(this.#current?.submission);
    this.#waiting.forEach((submission) => this.#forget(submission));
    disposeRows(this.#rows);
  }

  /** Keeps submissions on their way. */
  #sendAhead(keys: readonly number[]): void {
    while (this.#waiting.length < IN_FLIGHT && this.#sent < this.#limit) {
      if (keys.length <= 0.75 * this.#keys.length) this.#compact(keys);
      this.#waiting.push(this.#send());
    }
  }

  #send(): Submission<State> {
    const { ring } = this.#rows;
    const keys = this.#keys;
    const slot = this.#sent % SLOTS;
    const count = Math.min(this.#pace, SLOTS - slot, this.#limit - this.#sent);
    const before = this.#keepsStates
      ? { state: this.#state.fork() as State, consumed: Math.max(0, this.#sent - 1) }
      : undefined;
    for (let i = 0; i < count; i++) this.#step();
    this.#sent += count;
    const tokens = ring.rowsOf(slot, count).readNative() as Promise<Int32Array>;
    // Whoever waits for it sees the failure; nobody may be waiting when the caller has gone.
    tokens.catch(() => undefined);
    return { count, keys, tokens, before };
  }

  /** One token more a row: the first from the prompt's logits, the others through the model. */
  #step(): void {
    if (this.#firstLogits) {
      this.#sample(this.#firstLogits);
      this.#firstLogits.dispose();
      this.#firstLogits = undefined;
      return;
    }
    if (this.#state.room === 0) {
      this.#dropPlan();
      this.#state.reserve!(Math.min(this.#limit - this.#sent, ROOM));
    }
    if (this.#plan) {
      this.#plan.run();
      this.#state.advance?.(1);
    } else if (this.#isWarm) {
      this.#plan = this.#backend.capture(() => this.#compute());
      this.#plan.run();
      // Recording told the state of the token.
    } else {
      // Once as it is, which compiles kernels and settles what only a first run does.
      this.#compute();
      this.#isWarm = true;
    }
  }

  #compute(): void {
    scope(() => {
      const { tokens } = this.#rows;
      this.#sample(this.#model.forward(tokens, this.#state, { logits: "last", inPlace: true, checked: false }).logits);
    });
  }

  #sample(logits: Tensor): void {
    sampleTokens(this.#backend, { logits, ...this.#rows }, this.#settings);
  }

  /** Leaves out rows that were given up. */
  #compact(keys: readonly number[]): void {
    const places = keys.map((key) => this.#keys.indexOf(key));
    this.#dropPlan();
    const state = this.#state.select(places) as State;
    const rows = selectRows(this.#rows, places);
    this.#state.dispose();
    disposeRows(this.#rows);
    this.#state = state;
    this.#rows = rows;
    this.#keys = keys;
    this.#isWarm = false;
  }

  /** Submissions grow while they take less time than they may. */
  #measure(count: number): void {
    const now = performance.now();
    const ms = now - this.#lastArrival;
    this.#lastArrival = now;
    if (ms < SUBMISSION_MS / 2) this.#pace = Math.min(SLOTS, 2 * this.#pace);
    else if (ms > 2 * SUBMISSION_MS && count === this.#pace) this.#pace = Math.max(1, this.#pace >> 1);
  }

  #check(told: number): number {
    if (told >= 0) return told;
    const count = Math.min(this.#settings.vocabSize, this.#model.config.vocabSize);
    const failure = sampleFailure(told);
    throw failure === "all -Infinity" ? noLogitError(count) : nanError(failure.nan, count);
  }

  #forget(submission: Submission<State> | undefined): void {
    submission?.before?.state.dispose();
  }

  #dropPlan(): void {
    this.#plan?.dispose();
    this.#plan = undefined;
  }
}

function makeRows(
  backend: WebGpuBackend,
  rows: readonly DecoderRow[],
  { repetitionPenalty }: SampleSettings,
  vocabSize: number,
): RowTensors {
  const batch = rows.length;
  const draws = Int32Array.from(rows.flatMap(({ seed }) => [seed | 0, Math.floor(seed / 2 ** 32) | 0, 0, 0]));
  const words = Math.ceil(vocabSize / 32);
  const bits = new Int32Array(repetitionPenalty === 1 ? 0 : batch * words);
  if (bits.length > 0)
    for (const [i, { prompt }] of rows.entries())
      for (const id of prompt) bits[i * words + (id >>> 5)] |= 1 << (id & 31);
  return {
    tokens: keep(tensorFrom(backend, new Int32Array(batch), [batch, 1], "i32")),
    draws: keep(tensorFrom(backend, draws, [batch, 4], "i32")),
    seen: bits.length > 0 ? keep(tensorFrom(backend, bits, [batch, words], "i32")) : undefined,
    ring: keep(emptyTensor(backend, [SLOTS, batch], "i32")),
  };
}

function selectRows({ tokens, draws, seen }: RowTensors, places: readonly number[]): RowTensors {
  const select = (tensor: Tensor): Tensor => {
    const selected = keep(emptyTensor(tensor.backend, [places.length, tensor.columns], tensor.dtype));
    places.forEach((place, i) => copyInto(tensor.entries(place, 1), selected.entries(i, 1)));
    return selected;
  };
  return {
    tokens: select(tokens),
    draws: select(draws),
    seen: seen && select(seen),
    ring: keep(emptyTensor(tokens.backend, [SLOTS, places.length], "i32")),
  };
}

function disposeRows(rows: RowTensors): void {
  for (const tensor of Object.values(rows) as (Tensor | undefined)[]) tensor?.dispose();
}
