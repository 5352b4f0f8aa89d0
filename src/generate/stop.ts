// StopMatcher: finds stop strings in a stream of text, and never lets a part of one out too early.

/** Takes a stream piece by piece and says what may be shown. */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop.length > 0);
  }

  /** Takes the next piece. `text` may be shown; `isStopped` when a stop string was completed (it is not shown). */
  push(piece: string): { text: string; isStopped: boolean } {
    this.#held += piece;
    let first = -1;
    for (const stop of this.#stops) {
      const at = this.#held.indexOf(stop);
      if (at >= 0 && (first < 0 || at < first)) first = at;
    }
    if (first >= 0) {
      const text = this.#held.slice(0, first);
      this.#held = "";
      return { text, isStopped: true };
    }
    const keep = this.#longestOpenPrefix();
    const text = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return { text, isStopped: false };
  }

  /** What is still held back, at the end of the stream. */
  flush(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }

  /** Length of the longest end of the held text that a stop string begins with. */
  #longestOpenPrefix(): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let length = Math.min(stop.length - 1, this.#held.length); length > longest; length--)
        if (this.#held.endsWith(stop.slice(0, length))) longest = length;
    return longest;
  }
}
