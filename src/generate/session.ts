// DecodeSession: feeds tokens to a model and gives back the logits for the next one, with constant memory.
import type { Plan } from "../backends/backend.ts";
import { DataError } from "../core/errors.ts";
import { pause } from "../core/pause.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import { compileOnce } from "../tensor/compile-ahead.ts";
import { keep, scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { copyInto, emptyTensor, tensorFrom } from "../tensor/tensor.ts";

/** Tokens a prefill call: large enough for the products, small enough that memory stays flat. */
const PREFILL_CHUNK = 256;
/** Tokens that a state which grows gets room for at a time. */
export const ROOM = 256;
/** On a GPU, which has thousands of units to keep busy. */
const GPU_PREFILL_CHUNK = 4096;

/** A model at work on a batch of sequences: {@link prefill} a prompt, then {@link step} token by token. */
export class DecodeSession<State extends ModelState> {
  readonly #model: LanguageModel<State>;
  readonly #tokens: Tensor;
  /** Where logits are read to, again and again: a new array a token would be garbage faster than it is collected. */
  readonly #values: Float32Array;
  #state: State;
  #logits: Tensor | undefined;
  #plan: Plan | undefined;
  #isReleased = false;

  /** @param state is taken over: it changes in place, and dispose() gives it back. */
  constructor(model: LanguageModel<State>, state: State) {
    this.#model = model;
    this.#state = state;
    this.#tokens = keep(emptyTensor(model.backend, [state.batch, 1], "i32"));
    this.#values = new Float32Array(state.batch * model.config.vocabSize);
  }

  /** Gives the state away: dispose() leaves it alone. */
  release(): State {
    this.#isReleased = true;
    return this.#state;
  }

  /** The state after all tokens so far. It changes with the next call: fork it to keep it. */
  get state(): State {
    return this.#state;
  }

  /**
   * Consumes a prompt (for every sequence of the batch the same number of tokens, rows behind each other).
   * @returns logits for the token after it, `[batch * vocabSize]`, valid until the next call
   */
  async prefill(tokens: Int32Array, options: { signal?: AbortSignal | undefined } = {}): Promise<Float32Array> {
    const logits = await this.prefillOnDevice(tokens, options);
    const values = await logits.read(this.#values);
    logits.dispose();
    return values;
  }

  /** {@link prefill} without reading: logits `[batch, 1, vocabSize]`, to be disposed of by the caller. */
  async prefillOnDevice(tokens: Int32Array, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Tensor> {
    const { backend } = this.#model;
    const { batch } = this.#state;
    const length = tokens.length / batch;
    checkIds(tokens, this.#model.config.vocabSize);
    if (length === 0) throw new DataError("generate: the prompt has no tokens. Give at least one character.");
    this.#state.reserve?.(length);
    const most = backend.name === "webgpu" ? Math.max(1, Math.floor(GPU_PREFILL_CHUNK / batch)) : PREFILL_CHUNK;
    let before: Promise<unknown> | undefined;
    for (let start = 0; ; start += most) {
      signal?.throwIfAborted();
      const end = Math.min(length, start + most);
      const chunk = new Int32Array(batch * (end - start));
      for (let row = 0; row < batch; row++)
        chunk.set(tokens.subarray(row * length + start, row * length + end), row * (end - start));
      const forward = (tokens: Int32Array): Tensor => {
        const ids = tensorFrom(backend, tokens, [batch, tokens.length / batch], "i32");
        return this.#model.forward(ids, this.#state, { logits: "last", inPlace: true, checked: false }).logits;
      };
      // Which kernels a product takes depends on the size of the chunk, but not on its last bit.
      await compileOnce(backend, this.#model, `prefill ${batch} ${Math.ceil(Math.log2(end - start))}`, () => {
        forward(chunk);
        forward(new Int32Array(batch));
      });
      const logits = scope(() => keep(forward(chunk)));
      if (end === length) return logits;
      // A device that only queues is at most a chunk behind: a signal must find something left to stop.
      const done = backend.read(logits.storage, 0, 1);
      logits.dispose();
      await before;
      before = done;
      await pause();
    }
  }

  /** Consumes one token a sequence. @returns logits for the next, `[batch * vocabSize]`, valid until the next call. */
  async step(tokens: Int32Array): Promise<Float32Array> {
    checkIds(tokens, this.#model.config.vocabSize);
    this.#tokens.write(tokens);
    // The first step needs room for itself and for the one that is recorded.
    if ((this.#state.room ?? Infinity) < (this.#plan ? 1 : 2)) {
      this.#dropPlan();
      this.#state.reserve!(ROOM);
    }
    if (this.#plan) {
      this.#plan.run();
      this.#state.advance?.(1);
    } else this.#firstStep();
    return this.#logits!.read(this.#values);
  }

  #dropPlan(): void {
    this.#plan?.dispose();
    this.#plan = undefined;
  }

  dispose(): void {
    this.#dropPlan();
    this.#logits?.dispose();
    this.#tokens.dispose();
    if (!this.#isReleased) this.#state.dispose();
  }

  /** The first step runs as it is; then, where the backend can, it is recorded for the next ones. */
  #firstStep(): void {
    this.#logits?.dispose();
    const forward = (): Tensor =>
      keep(this.#model.forward(this.#tokens, this.#state, { logits: "last", inPlace: true, checked: false }).logits);
    const first = forward();
    const { backend } = this.#model;
    if (backend.capture) {
      this.#plan = backend.capture(() => {
        this.#logits = forward();
      });
      // It was recorded, and has not run.
      this.#state.advance?.(-1);
      copyInto(first, this.#logits!);
      first.dispose();
    } else this.#logits = first;
  }
}

function checkIds(ids: Int32Array, vocabSize: number): void {
  const bad = ids.findIndex((id) => id < 0 || id >= vocabSize);
  if (bad >= 0)
    throw new DataError(
      `generate: token ids must lie within 0..${vocabSize - 1}, got ${ids[bad]} at position ${bad}. Was the text tokenised for another model?`,
    );
}
