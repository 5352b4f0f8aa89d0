// How fast a run goes, and how long it still takes.

/** Weight of the newest step in the moving average of seconds a token. */
const NEWEST = 0.1;

export class Rate {
  #secondsPerToken = 0;
  #weight = 0;
  #steps = 0;
  readonly #begin: number;

  /** @param now seconds */
  constructor(now: number) {
    this.#begin = now;
  }

  /** A step of `tokens` tokens took `seconds`. */
  add(tokens: number, seconds: number): void {
    this.#secondsPerToken += NEWEST * (seconds / Math.max(1, tokens) - this.#secondsPerToken);
    this.#weight += NEWEST * (1 - this.#weight);
    this.#steps++;
  }

  /** Of late: a moving average over about ten steps, of the steps alone. */
  get tokensPerSecond(): number {
    return this.#secondsPerToken > 0 ? this.#weight / this.#secondsPerToken : 0;
  }

  /** At the pace since the beginning, evaluations and saves included. */
  secondsLeft(steps: number, now: number): number {
    return this.#steps > 0 ? ((now - this.#begin) / this.#steps) * steps : Infinity;
  }
}
