// Axes: where ticks stand and how they are written.

export interface Axis {
  readonly label: string;
  readonly scale: "linear" | "log2" | "log10";
  readonly format: (value: number) => string;
  /** Ends that are wider than the values; the values widen them. */
  readonly include?: readonly number[];
}

export interface Range {
  readonly domain: readonly [number, number];
  readonly ticks: readonly number[];
}

/** Logarithmic axes are wider than their values by this share of their length at both ends. */
const MARGIN = 0.03;

/** The ends and ticks of an axis for these values, about `most` ticks. `isTight`: it ends where its values end. */
export function rangeOf(values: readonly number[], axis: Axis, most: number, isTight = false): Range {
  // A logarithmic axis has no place for zero and below.
  const all = [...values, ...(axis.include ?? [])].filter((value) => axis.scale === "linear" || value > 0);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  if (axis.scale === "linear") return linear(low, high, most);
  const domain = low === high ? ([low / 2, high * 2] as const) : widened(low, high, isTight ? 0 : MARGIN);
  return { domain, ticks: axis.scale === "log2" ? powersOf2(domain, most) : stepsOf10(domain, most) };
}

function widened(low: number, high: number, margin: number): readonly [number, number] {
  const factor = (high / low) ** margin;
  return [low / factor, high * factor];
}

function linear(low: number, high: number, most: number): Range {
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const step = stepOf((high - low) / most);
  const [from, to] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  const ticks = Array.from({ length: to - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)));
  return { domain: [ticks[0], ticks[ticks.length - 1]], ticks };
}

/** The next of 1, 2, 5 times a power of ten, or the one a little below. */
function stepOf(least: number): number {
  const decade = 10 ** Math.floor(Math.log10(least));
  return decade * ([1, 2, 5].find((step) => step * decade >= least * 0.75) ?? 10);
}

function powersOf2([low, high]: readonly [number, number], most: number): number[] {
  const [from, to] = [Math.ceil(Math.log2(low) - 1e-9), Math.floor(Math.log2(high) + 1e-9)];
  const step = Math.max(1, Math.ceil((to - from) / most));
  const ticks: number[] = [];
  for (let i = Math.ceil(from / step) * step; i <= to; i += step) ticks.push(2 ** i);
  return ticks;
}

/** Decades; where they are few, 1-2-5 between; where there is not even one, even steps. */
function stepsOf10([low, high]: readonly [number, number], most: number): number[] {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return linear(low, high, most).ticks.filter((tick) => tick >= low && tick <= high);
  const stops = decades < 3 ? [1, 2, 5] : [1];
  const ticks: number[] = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
    for (const stop of stops) ticks.push(Number((stop * 10 ** decade).toPrecision(6)));
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  const every = Math.max(1, Math.ceil(inside.length / (most + 3)));
  return inside.filter((_, i) => i % every === 0);
}

/** Moves labels apart: positions with at least `gap` between, as near to the wanted ones as they go, inside the bounds. */
export function spread(wanted: readonly number[], gap: number, low: number, high: number): number[] {
  const order = wanted.map((_, i) => i).toSorted((a, b) => wanted[a] - wanted[b]);
  // Groups of labels that touch share one shift: the mean of what each of them wants.
  const groups: { start: number; members: number[] }[] = [];
  const place = (members: number[]): number => {
    const mean = members.reduce((sum, member, k) => sum + wanted[member] - k * gap, 0) / members.length;
    return Math.max(low, Math.min(mean, high - (members.length - 1) * gap));
  };
  for (const member of order) {
    let group = { start: place([member]), members: [member] };
    for (let last = groups.at(-1); last !== undefined; last = groups.at(-1)) {
      if (last.start + last.members.length * gap <= group.start) break;
      groups.pop();
      const members = [...last.members, ...group.members];
      group = { start: place(members), members };
    }
    groups.push(group);
  }
  const result = Array.from<number>({ length: wanted.length });
  for (const { start, members } of groups)
    for (const [k, member] of members.entries()) result[member] = start + k * gap;
  return result;
}
