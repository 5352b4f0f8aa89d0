// The tokens still in the race and their weights: partial selection instead of sorting a whole vocabulary.
// Instead of a full sort: a heap for top-k (Knuth, vol. 3, 5.2.3), buckets of equal exponent for top-p.

const BUCKETS = 1024;
/** Below exp(-40) a weight is beyond the last bit of any sum: one bucket holds the rest. */
const SPAN = 40;

/** Candidates `ids[0 .. count)` with unnormalised probabilities `weights[0 .. count)`; memory is kept from call to call. */
export class Candidates {
  #ids = new Int32Array(0);
  #weights = new Float64Array(0);
  #buckets = new Uint16Array(0);
  readonly #sums = new Float64Array(BUCKETS);
  #count = 0;
  #total = 0;

  /** Starts with the `count` largest scores, ties by lower id; all of them, in the order of ids, when `count` is their number. */
  select(scores: Float32Array, count: number): void {
    if (this.#ids.length < count) {
      this.#ids = new Int32Array(count);
      this.#weights = new Float64Array(count);
      this.#buckets = new Uint16Array(count);
    }
    this.#count = count;
    const ids = this.#ids;
    for (let id = 0; id < count; id++) ids[id] = id;
    if (count < scores.length) selectLargest(scores, ids, count);
  }

  /**
   * weights = exp((score - largest) / temperature); with an infinite largest, 1 for the infinite ones and 0 for the rest.
   * On the way, weights are summed in buckets of equal exponent, which top-p needs, from 0 down to `smallest`.
   */
  weigh(scores: Float32Array, largest: number, smallest: number, temperature: number): void {
    const ids = this.#ids;
    const weights = this.#weights;
    const buckets = this.#buckets;
    const sums = this.#sums.fill(0);
    const inverse = 1 / temperature;
    const span = smallest === largest ? 0 : Math.min((largest - smallest) * inverse, SPAN);
    const scale = span > 0 ? (1 - BUCKETS) / span : 0;
    const count = this.#count;
    for (let i = 0; i < count; i++) {
      const score = scores[ids[i]];
      // Equal scores first: Infinity - Infinity is no number.
      const exponent = score === largest ? 0 : (score - largest) * inverse;
      const weight = exponential(exponent);
      const bucket = exponent > -span ? (exponent * scale) | 0 : BUCKETS - 1;
      weights[i] = weight;
      buckets[i] = bucket;
      sums[bucket] += weight;
    }
    this.#total = sums.reduce((total, sum) => total + sum, 0);
  }

  /** Top-p: keeps the fewest candidates, largest first (ties by lower id), whose weights sum to `share` of the total. */
  keepTop(scores: Float32Array, share: number): void {
    const target = share * this.#total;
    const { from, before } = this.#keepBuckets(target);
    this.#ids.subarray(from, this.#count).sort((a, b) => scores[b] - scores[a] || a - b);
    // A weight grows with its score, so that sorting both gives pairs again.
    this.#weights.subarray(from, this.#count).sort().reverse();
    let sum = before;
    let count = from;
    while (count < this.#count && sum < target) sum += this.#weights[count++];
    this.#count = Math.max(count, 1);
    this.#total = sum;
  }

  /** Min-p: keeps candidates whose weight is at least `ratio` times the largest weight, which is 1. */
  keepAtLeast(ratio: number): void {
    let count = 0;
    let total = 0;
    for (let i = 0; i < this.#count; i++) {
      const weight = this.#weights[i];
      if (weight < ratio) continue;
      this.#ids[count] = this.#ids[i]!;
      this.#weights[count++] = weight;
      total += weight;
    }
    this.#count = count;
    this.#total = total;
  }

  /** The candidate at `uniform` (in [0, 1)) of the cumulated weights. */
  draw(uniform: number): number {
    const target = uniform * this.#total;
    let sum = 0;
    let last = 0;
    for (let i = 0; i < this.#count; i++) {
      const weight = this.#weights[i];
      if (weight === 0) continue;
      last = i;
      sum += weight;
      if (sum > target) break;
    }
    return this.#ids[last];
  }

  /**
   * Puts the candidates of every bucket that top-p surely keeps first, then those of the bucket where the sum crosses
   * `target`, and drops the rest. Returns where that last bucket begins and the sum before it.
   */
  #keepBuckets(target: number): { from: number; before: number } {
    const buckets = this.#buckets;
    let crossing = 0;
    let before = 0;
    while (crossing < BUCKETS - 1 && before + this.#sums[crossing] < target) before += this.#sums[crossing++];
    let end = 0;
    for (let i = 0; i < this.#count; i++) if (buckets[i] <= crossing) this.#swap(i, end++);
    let from = 0;
    for (let i = 0; i < end; i++) if (buckets[i] < crossing) this.#swap(i, from++);
    this.#count = end;
    return { from, before };
  }

  #swap(a: number, b: number): void {
    if (a === b) return;
    swap(this.#ids, a, b);
    swap(this.#weights, a, b);
    swap(this.#buckets, a, b);
  }
}

function swap(values: Int32Array | Float64Array | Uint16Array, a: number, b: number): void {
  const value = values[a];
  values[a] = values[b]!;
  values[b] = value;
}

/** Puts the ids of the `count` largest scores (ties: lower id first) into `ids[0 .. count)`, which holds 0 .. count-1, by a heap whose root is the worst. */
function selectLargest(scores: Float32Array, ids: Int32Array, count: number): void {
  for (let i = (count >> 1) - 1; i >= 0; i--) siftDown(scores, ids, count, i);
  let worst = scores[ids[0]];
  for (let id = count; id < scores.length; id++) {
    if (!(scores[id] > worst)) continue;
    ids[0] = id;
    siftDown(scores, ids, count, 0);
    worst = scores[ids[0]]!;
  }
}

function siftDown(scores: Float32Array, ids: Int32Array, count: number, start: number): void {
  const id = ids[start];
  const score = scores[id];
  let hole = start;
  for (;;) {
    let child = 2 * hole + 1;
    if (child >= count) break;
    if (child + 1 < count && isWorse(scores, ids[child + 1], ids[child])) child += 1;
    const childScore = scores[ids[child]];
    if (childScore > score || (childScore === score && ids[child] < id)) break;
    ids[hole] = ids[child]!;
    hole = child;
  }
  ids[hole] = id;
}

function isWorse(scores: Float32Array, a: number, b: number): boolean {
  return scores[a] < scores[b] || (scores[a] === scores[b] && a > b);
}

const STEPS = 64;
const STEPS_PER_UNIT = STEPS / Math.LN2;
// ln(2) / 64 in two parts, the first with so few bits that multiples up to 2^17 are exact.
const STEP_HIGH = 0.010830424609594047;
const STEP_LOW = 8.66550983900947e-11;
const WHOLE_POWERS = Float64Array.from({ length: 1024 }, (_, k) => 2 ** -k);
const PARTIAL_POWERS = partialPowers();

/**
 * exp(x) for x <= 0, relative error < 1e-10, by arithmetic that IEEE 754 fixes to the bit (Math.exp differs between engines):
 * x = r - i ln(2) / 64 with |r| <= ln(2) / 128, two tables for 2^(-i / 64), and a Taylor polynomial for exp(r). 0 below -708.
 */
export function exponential(x: number): number {
  if (!(x > -708)) return 0;
  const i = (0.5 - x * STEPS_PER_UNIT) | 0;
  const r = x + i * STEP_HIGH + i * STEP_LOW;
  return (1 + r * (1 + r * (1 / 2 + r * (1 / 6)))) * (PARTIAL_POWERS[i & (STEPS - 1)] * WHOLE_POWERS[i >> 6]);
}

/** 2^(-i / 64), by square roots alone, which IEEE 754 fixes too. */
function partialPowers(): Float64Array {
  const roots = [1 / 2];
  for (let bit = 0; bit < 6; bit++) roots.push(Math.sqrt(roots[bit]));
  return Float64Array.from({ length: STEPS }, (_, i) =>
    roots.reduce((power, root, bit) => ((i >> (6 - bit)) & 1 ? power * root : power), 1),
  );
}
