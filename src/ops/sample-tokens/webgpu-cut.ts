// Where the candidates of a draw end: counts (top-k) or weights (top-p) in bins, the bin where the sum crosses its goal
// narrowed until its candidates can be ranked one against another. All sums are integers, so they do not vary.

/** Bins of a pass; at least as many as threads. */
export const BINS = 1024;

/** Sums of two words (low, high), and weights as multiples of 2^-40. */
export const FIXED_POINT = /* wgsl */ `
fn add_wide(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn is_less(a: vec2u, b: vec2u) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }

fn fixed(weight: f32) -> vec2u {
  let scaled = weight * 256.0;
  let high = u32(scaled);
  return vec2u(u32((scaled - f32(high)) * 4294967296.0), high);
}

/** The product of two words. */
fn multiply(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return vec2u(a * b, (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

/** The upper half of the product of two pairs of words: floor(a b / 2^64). */
fn multiply_high(a: vec2u, b: vec2u) -> vec2u {
  let low = multiply(a.x, b.x);
  let cross = multiply(a.x, b.y);
  let other = multiply(a.y, b.x);
  let middle = add_wide(add_wide(vec2u(low.y, 0u), vec2u(cross.x, 0u)), vec2u(other.x, 0u));
  let carried = add_wide(add_wide(vec2u(middle.y, 0u), vec2u(cross.y, 0u)), vec2u(other.y, 0u));
  return add_wide(multiply(a.y, b.y), carried);
}`;

/** Philox 4x32-10 (Salmon et al. 2011): random words from a counter and a key. */
export const PHILOX = /* wgsl */ `
fn philox(start: vec4u, start_key: vec2u) -> vec4u {
  var counter = start;
  var key = start_key;
  for (var round = 0u; round < 10u; round++) {
    let a = multiply(0xd2511f53u, counter.x);
    let b = multiply(0xcd9e8d57u, counter.z);
    counter = vec4u(b.y ^ counter.y ^ key.x, b.x, a.y ^ counter.w ^ key.y, a.x);
    key += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return counter;
}`;

/** Sums by bin in `low_words` and `high_words`, and the first bin with which they reach a goal. */
export const CROSSING = /* wgsl */ `
struct Crossing {
  place: u32,
  /** The sum of all before. */
  before: vec2u,
}

const PARTS = 32u;
var<workgroup> part_sums: array<vec2u, PARTS>;
var<workgroup> found_crossing: Crossing;

fn word_at(i: u32) -> vec2u { return vec2u(atomicLoad(&low_words[i]), atomicLoad(&high_words[i])); }

fn clear_words(thread: u32) {
  for (var i = thread; i < BINS; i += THREADS) {
    atomicStore(&low_words[i], 0u);
    atomicStore(&high_words[i], 0u);
  }
}

fn add_to_word(i: u32, value: vec2u) {
  let before = atomicAdd(&low_words[i], value.x);
  let high = value.y + select(0u, 1u, before + value.x < before);
  if (high > 0u) { atomicAdd(&high_words[i], high); }
}

/** The sum of all bins, of which parts are kept for find_crossing. */
fn sum_of_words(thread: u32) -> vec2u {
  workgroupBarrier();
  if (thread < PARTS) {
    var sum = vec2u();
    for (var i = 0u; i < BINS / PARTS; i++) { sum = add_wide(sum, word_at(thread * (BINS / PARTS) + i)); }
    part_sums[thread] = sum;
  }
  workgroupBarrier();
  var total = vec2u();
  for (var part = 0u; part < PARTS; part++) { total = add_wide(total, part_sums[part]); }
  return total;
}

/** The first bin with which the sum is at least the goal; the last one if there is none. */
fn find_crossing(thread: u32, goal: vec2u) -> Crossing {
  if (thread == 0u) {
    var before = vec2u();
    var part = 0u;
    for (; part < PARTS - 1u; part++) {
      let sum = add_wide(before, part_sums[part]);
      if (!is_less(sum, goal)) { break; }
      before = sum;
    }
    var place = part * (BINS / PARTS);
    for (; place < (part + 1u) * (BINS / PARTS) - 1u; place++) {
      let sum = add_wide(before, word_at(place));
      if (!is_less(sum, goal)) { break; }
      before = sum;
    }
    found_crossing = Crossing(place, before);
  }
  return workgroupUniformLoad(&found_crossing);
}`;

/**
 * `find_cut(row, thread, best, limit, by_weight)`: the last of the fewest candidates, largest first, equal ones by id, whose
 * number is top_k, or whose weights sum to the share top_p of all; among those up to `limit`.
 *
 * Bins are equal steps of the score first; then, within the bin that counts, equal steps of its order; then, when all its
 * scores are equal, of the id; until there are so few candidates that each can be compared with all others.
 */
export function cutText(sweep: (text: string) => string): string {
  return `${RANGE}${RANK}
${findCut(sweep)}`;
}

const RANGE = /* wgsl */ `
const BY_SCORE = 0u;
const BY_ORDER = 1u;
const BY_ID = 2u;
/** Weights of candidates beyond this many temperatures below the best are all in the last bin. */
const MOST_SPAN = 40.0;

/** Candidates among which the cut lies, and how they are sorted into bins. */
struct Range {
  by: u32,
  least: u32,
  most: u32,
  first_id: u32,
  last_id: u32,
  scale: f32,
}

/** Of the bin that counts: the least and largest key (order or id), and how many there are. */
var<workgroup> least_key: atomic<u32>;
var<workgroup> largest_key: atomic<u32>;
var<workgroup> members: atomic<u32>;
var<workgroup> narrowed: vec3u;
var<workgroup> listed: array<Place, LISTED>;
var<workgroup> listed_weights: array<vec2u, LISTED>;
var<workgroup> found_cut: Place;

fn is_in(order: u32, id: u32, range: Range) -> bool {
  return order >= range.least && order <= range.most && id >= range.first_id && id <= range.last_id;
}

fn bin_of(order: u32, id: u32, range: Range, best: Best) -> u32 {
  if (range.by == BY_ID) { return (id - range.first_id) / ((range.last_id - range.first_id) / BINS + 1u); }
  if (range.by == BY_ORDER) { return (range.most - order) / ((range.most - range.least) / BINS + 1u); }
  if (order == best.order) { return 0u; }
  return u32(clamp((float_of(best.order) - float_of(order)) * range.scale, 0.0, f32(BINS - 1u)));
}

/** ceil(share of a total), the share as a multiple of 2^-32. */
fn share_of(total: vec2u, share: u32) -> vec2u {
  let low = multiply(total.x, share);
  let whole = add_wide(multiply(total.y, share), vec2u(low.y, 0u));
  return add_wide(whole, vec2u(select(0u, 1u, low.x > 0u), 0u));
}

fn subtract(a: vec2u, b: vec2u) -> vec2u { return vec2u(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }

fn first_range(best: Best, by_weight: bool) -> Range {
  var span = float_of(best.order) - float_of(min(best.least, best.order));
  if (by_weight) { span = min(span, MOST_SPAN * params.temperature); }
  return Range(BY_SCORE, 0u, best.order, 0u, NONE, select(0.0, f32(BINS - 1u) / span, span > 0.0));
}`;

function findCut(sweep: (text: string) => string): string {
  return /* wgsl */ `
fn find_cut(row: u32, thread: u32, best: Best, limit: Place, by_weight: bool) -> Place {
  var range = first_range(best, by_weight);
  var goal = vec2u(params.top_k, 0u);
  var before = vec2u();
  loop {
    clear_words(thread);
    workgroupBarrier();
${sweep(/* wgsl */ `
      if (is_in(order, id, range) && is_within(order, id, limit)) {
        add_to_word(bin_of(order, id, range, best), measure_of(order, best, by_weight));
      }`)}
    let total = sum_of_words(thread);
    if (range.by == BY_SCORE && by_weight) { goal = share_of(total, params.top_p_bits); }
    let crossing = find_crossing(thread, subtract(goal, before));
    before = add_wide(before, crossing.before);
    if (thread == 0u) {
      atomicStore(&least_key, NONE);
      atomicStore(&largest_key, 0u);
      atomicStore(&members, 0u);
    }
    workgroupBarrier();
${sweep(/* wgsl */ `
      if (is_in(order, id, range) && is_within(order, id, limit) && bin_of(order, id, range, best) == crossing.place) {
        let key = select(order, id, range.by == BY_ID);
        atomicMin(&least_key, key);
        atomicMax(&largest_key, key);
        let slot = atomicAdd(&members, 1u);
        if (slot < LISTED) {
          listed[slot] = Place(order, id);
          listed_weights[slot] = measure_of(order, best, by_weight);
        }
      }`)}
    workgroupBarrier();
    if (thread == 0u) { narrowed = vec3u(atomicLoad(&least_key), atomicLoad(&largest_key), atomicLoad(&members)); }
    let bin = workgroupUniformLoad(&narrowed);
    if (bin.z <= LISTED) { return rank(thread, bin.z, before, goal); }
    range = narrow(range, bin);
  }
}`;
}

const RANK = /* wgsl */ `
fn measure_of(order: u32, best: Best, by_weight: bool) -> vec2u {
  if (by_weight) { return fixed(weight_of(order, best)); }
  return vec2u(1u, 0u);
}

fn narrow(range: Range, bin: vec3u) -> Range {
  if (range.by == BY_ID) { return Range(BY_ID, range.least, range.most, bin.x, bin.y, 0.0); }
  if (bin.x == bin.y) { return Range(BY_ID, bin.x, bin.y, 0u, params.count - 1u, 0.0); }
  return Range(BY_ORDER, bin.x, bin.y, 0u, NONE, 0.0);
}

/** The candidate with which the sum reaches its goal, by comparing each that is listed with all others. */
fn rank(thread: u32, count: u32, before: vec2u, goal: vec2u) -> Place {
  for (var i = thread; i < count; i += THREADS) {
    let own = listed[i];
    var sum = before;
    for (var j = 0u; j < count; j++) {
      if (j != i && is_within(listed[j].order, listed[j].id, own)) { sum = add_wide(sum, listed_weights[j]); }
    }
    if (is_less(sum, goal) && !is_less(add_wide(sum, listed_weights[i]), goal)) { found_cut = own; }
  }
  return workgroupUniformLoad(&found_cut);
}`;
