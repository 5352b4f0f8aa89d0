// Sentences about measurements: below each chart, what to see in it.
import { count, digits, length, percent, sentenceList, shortReason } from "./numbers.ts";
import type { Report } from "./schema.ts";
import { at, crossover, lastShared, qualityMeasure, scores } from "./series.ts";
import type { Measured, QualityMeasure } from "./series.ts";

/** `mamba 1.62, transformer 1.66` as a text of quality. */
export function formatScore(value: number, by: QualityMeasure): string {
  return by.key === "accuracy" ? percent(value) : value.toFixed(by.key === "perplexity" ? 2 : 3);
}

/** On each held-out text: who is best, and by how much. */
export function qualityCaption(report: Report): string {
  const by = qualityMeasure(report);
  if (by === undefined) return "";
  const parts = scores(report, by).map(({ name, scores }) => {
    const [best, second] = scores;
    const where = `On ${name}, ${best.name} is best (${formatScore(best.value, by)} ${by.label})`;
    if (second === undefined) return `${where}.`;
    return `${where}; next is ${second.name}, ${difference(best.value, second.value, by)}.`;
  });
  return parts.join(" ");
}

/** `3.1 % higher`, `12.0 points lower`: of one that is behind the best. */
export function difference(best: number, other: number, by: QualityMeasure): string {
  const points = Math.abs(by.key === "accuracy" ? best - other : other / best - 1) * 100;
  if (points < 0.05) return "equal to within 0.1 %";
  return by.key === "accuracy" ? `${points.toFixed(1)} points lower` : `${points.toFixed(1)} % higher`;
}

/** Who is best, who is last at the end of the lines. */
export function endCaption(
  series: readonly Measured[],
  what: string,
  format: (value: number) => string,
  isHigherBetter = false,
): string {
  const ends = series
    .map(({ name, points }) => ({ name, y: points[points.length - 1].y }))
    .toSorted((a, b) => (isHigherBetter ? b.y - a.y : a.y - b.y));
  const [best, last] = [ends[0], ends[ends.length - 1]];
  if (ends.length === 1) return `At the end: ${format(best.y)}.`;
  const order = isHigherBetter ? ["highest", "lowest"] : ["lowest", "highest"];
  return `At the end ${best.name} has the ${order[0]} ${what} (${format(best.y)}), ${last.name} the ${order[1]} (${format(last.y)}).`;
}

/** At the largest x that most models share: the two ends, and their factor. `isHigherBetter` turns the order. */
export function contrastCaption(
  series: readonly Measured[],
  at_: (x: string) => string,
  format: (value: number) => string,
  isHigherBetter: boolean,
): string {
  const x = lastShared(series) ?? lastShared(series.slice(0, 2));
  if (x === undefined) return "";
  const values = series
    .flatMap(({ name, points }) => {
      const y = at(points, x);
      return y === undefined ? [] : [{ name, y }];
    })
    .toSorted((a, b) => (isHigherBetter ? b.y - a.y : a.y - b.y));
  const [best, worst] = [values[0], values[values.length - 1]];
  const verb = isHigherBetter ? "reaches" : "takes";
  if (values.length === 1) return `${at_(length(x))} ${best.name} ${verb} ${format(best.y)}.`;
  const factor = isHigherBetter ? best.y / worst.y : worst.y / best.y;
  return `${at_(length(x))} ${best.name} ${verb} ${format(best.y)} and ${worst.name} ${format(worst.y)}: a factor of ${factorText(factor)}.`;
}

/** Where the first model overtakes each of the others, of series in which lower is better. */
export function crossoverCaption(series: readonly Measured[]): string {
  const [first, ...rest] = series;
  if (first === undefined) return "";
  const met = rest.flatMap((other) => {
    const from = crossover(first, other);
    return from === undefined || from === 0 ? [] : [`than ${other.name} from ${length(from)} tokens on`];
  });
  return met.length === 0 ? "" : `Lines that cross: ${first.name} is faster ${sentenceList(met)}.`;
}

/** How much of its first rate each model keeps at its last length: who keeps most and who keeps least. */
export function keptCaption(series: readonly Measured[]): string {
  const kept = series
    .filter(({ points }) => points.length > 1)
    .map(({ name, points }) => {
      const [first, last] = [points[0], points[points.length - 1]];
      return { share: last.y / first.y, text: `${name} keeps ${percent(last.y / first.y)} (${length(last.x)})` };
    })
    .toSorted((a, b) => b.share - a.share);
  if (kept.length === 0) return "";
  const ends = kept.length === 1 ? kept : [kept[0], kept[kept.length - 1]];
  return `Of the rate at the shortest context, ${sentenceList(ends.map(({ text }) => text))} at the longest.`;
}

/** What stopped where: those of one place and reason together. */
export function stopCaption(series: readonly Measured[], what: string): string {
  const groups = new Map<string, string[]>();
  for (const { name, stopped, stoppedAt } of series) {
    if (stopped === undefined) continue;
    const place = `at ${length(stoppedAt ?? 0)} (${shortReason(stopped, 60)})`;
    groups.set(place, [...(groups.get(place) ?? []), name]);
  }
  const parts = [...groups].map(([place, names]) => `${sentenceList(names)} ${place}`);
  return parts.length === 0 ? "" : `A cross marks the last ${what} measured; then stopped: ${parts.join("; ")}.`;
}

/** How the loss or the accuracy moves from the training length to the longest: of all models, or of the two extremes. */
export function extrapolationCaption(
  series: readonly Measured[],
  trained: number | undefined,
  isAccuracy: boolean,
): string {
  const format = isAccuracy ? percent : (value: number): string => value.toFixed(2);
  const moves = series
    .flatMap(({ name, points }) => {
      const from = points.findLast(({ x }) => x <= (trained ?? points[0].x)) ?? points[0];
      const to = points[points.length - 1];
      if (from === to) return [];
      const change = isAccuracy ? from.y - to.y : to.y - from.y;
      return [{ change, text: `${name} goes from ${format(from.y)} to ${format(to.y)} (${length(to.x)})` }];
    })
    .toSorted((a, b) => a.change - b.change);
  if (moves.length === 0) return "";
  const shown = moves.length <= 3 ? moves : [moves[0], moves[moves.length - 1]];
  const start = trained === undefined ? "From the shortest" : `From the training length (${length(trained)})`;
  const which = shown === moves ? "" : ", the steadiest and the least steady";
  return `${start} to each one's longest${which}: ${sentenceList(shown.map(({ text }) => text))}.`;
}

export function sweepCaption(report: Report, against: "parameters" | "flops"): string {
  const ratios = (report.sweep?.ratios ?? []).filter((ratio) => ratio.against === against);
  const what = against === "parameters" ? "parameters" : "compute";
  const parts = [...new Set(ratios.map(({ of }) => of))].map((name) => {
    const [first, ...rest] = ratios.filter(({ of }) => of === name);
    const last = rest.at(-1);
    const start = `For a loss of ${digits(first.lossNats)} ${name} needs ${digits(first.ratio, 2)} times the ${what} of ${first.to}`;
    const end = last === undefined ? "" : `, for ${digits(last.lossNats)} ${digits(last.ratio, 2)} times`;
    return `${start}${end} (between the points).`;
  });
  const fits = (report.sweep?.fits ?? []).filter((fit) => fit.against === against);
  const laws = fits.map(({ architecture, exponent, floor }) => {
    const end = floor > 0 ? `, above ${digits(floor)}` : "";
    return `${architecture} as the power ${digits(-exponent, 2)}${end}`;
  });
  if (laws.length > 0) parts.push(`The loss falls: ${sentenceList(laws)}.`);
  return parts.join(" ");
}

/** `2.9`, `11`, `13,763`. */
function factorText(factor: number): string {
  return factor < 9.95 ? digits(factor, 2) : Math.round(factor).toLocaleString("en-US");
}

/** `20M tokens`. */
export function tokens(value: number): string {
  return `${count(value)} tokens`;
}
