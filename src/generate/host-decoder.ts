// HostDecoder: tokens chosen on the host from logits that are read after every step.
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { Sampler } from "./sampling.ts";
import { DecodeSession } from "./session.ts";

/** Decodes a batch; rows are named by their place in the first batch. */
export class HostDecoder<State extends ModelState> {
  readonly #model: LanguageModel<State>;
  readonly #samplers: readonly Sampler[];
  #session: DecodeSession<State>;
  #logits: Float32Array | undefined;
  #keys: readonly number[];
  #last = new Int32Array(0);
  #consumed = 0;

  /** @param logits of all rows behind each other, for the first token  @param session taken over */
  constructor(
    model: LanguageModel<State>,
    session: DecodeSession<State>,
    logits: Float32Array,
    samplers: readonly Sampler[],
  ) {
    this.#model = model;
    this.#session = session;
    this.#logits = logits;
    this.#samplers = samplers;
    this.#keys = samplers.map((_, i) => i);
  }

  /**
   * The next token of each row named, in their order. Rows that are not named any more are left out from now on.
   * @throws DataError for logits that leave no choice
   */
  async next(keys: readonly number[]): Promise<Int32Array> {
    const logits = this.#logits ?? (await this.#step(keys));
    this.#logits = undefined;
    const { vocabSize } = this.#model.config;
    this.#last = Int32Array.from(keys, (key, i) => {
      const token = this.#samplers[key].sample(logits.subarray(i * vocabSize, (i + 1) * vocabSize));
      this.#samplers[key].observe(token);
      return token;
    });
    return this.#last;
  }

  /** The state after these tokens, which {@link next} gave for the only row. Valid until dispose(). */
  async stateAfter(tokens: readonly number[]): Promise<State> {
    if (tokens.length > this.#consumed) await this.#session.step(Int32Array.of(tokens.at(-1)!));
    return this.#session.state;
  }

  dispose(): void {
    this.#session.dispose();
  }

  async #step(keys: readonly number[]): Promise<Float32Array> {
    if (keys.length < this.#keys.length) {
      const places = keys.map((key) => this.#keys.indexOf(key));
      const next = new DecodeSession(this.#model, this.#session.state.select(places) as State);
      this.#session.dispose();
      this.#session = next;
      this.#last = Int32Array.from(places, (place) => this.#last[place]);
      this.#keys = keys;
    }
    this.#consumed++;
    return this.#session.step(this.#last);
  }
}
