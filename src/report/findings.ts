// The answer of a report in a few sentences: who is best, how fast against each other, from which length, what stopped.
import { difference, formatScore, sweepCaption, tokens } from "./captions.ts";
import {
  bytes,
  count,
  digits,
  length,
  percent,
  seconds,
  sentenceList,
  shortReason,
  times,
  timesAs,
} from "./numbers.ts";
import type { ModelReport, Report } from "./schema.ts";
import { at, byBatch, byLength, crossover, lastShared, measure, qualityMeasure, scores } from "./series.ts";
import type { Measured } from "./series.ts";

/** Differences in quality below this say little: runs of one model with other seeds differ as much. */
const CLOSE = 0.01;

/** The sentences, the most important first. */
export function findings(report: Report): string[] {
  if (!report.models.some(({ status }) => status === "done"))
    return [
      ...unfinished(report),
      ...(report.sweep === undefined ? ["No model has finished."] : [sweepSentence(report)]),
    ];
  return [
    ...quality(report),
    ...(pairOf(report) === undefined ? [] : speed(report)),
    ...extrapolation(report),
    ...stops(report),
    sweepSentence(report),
    ...unfinished(report),
  ].filter((sentence) => sentence !== "");
}

/** The two whose speed is compared in words: a Mamba and a transformer if there are, else the first two. */
function pairOf(report: Report): readonly [string, string] | undefined {
  const measured = report.models.filter(({ speed }) => speed !== undefined);
  const isFamily =
    (family: string) =>
    ({ architecture }: ModelReport): boolean =>
      architecture.toLowerCase().startsWith(family);
  const one = measured.find(isFamily("mamba")) ?? measured[0];
  const other = measured.find((model) => model !== one && isFamily("transformer")(model));
  const rival = other ?? measured.find((model) => model !== one);
  return one === undefined || rival === undefined ? undefined : [one.name, rival.name];
}

function quality(report: Report): string[] {
  const by = qualityMeasure(report);
  if (by === undefined) return [];
  const sets = scores(report, by);
  const trained = report.models.map(({ training }) => training?.tokens ?? 0);
  const after = Math.max(...trained) > 0 ? `After ${tokens(Math.max(...trained))} of training, on ` : "On ";
  const sentences = sets.map(({ name, scores }, i) => {
    const [best, ...rest] = scores;
    const start = `${i === 0 ? after : "On "}${name} ${best.name} is best: ${formatScore(best.value, by)} ${by.label}`;
    const behind = rest.slice(0, 2).map((score) => `${score.name} is ${difference(best.value, score.value, by)}`);
    return behind.length === 0 ? `${start}.` : `${start}; ${sentenceList(behind)}.`;
  });
  const isClose = sets.some(({ scores: [best, second] }) => {
    if (second === undefined) return false;
    return (by.isHigherBetter ? best.value - second.value : second.value / best.value - 1) < CLOSE;
  });
  return isClose ? [...sentences, "The best two are within 1 %: another seed may turn their order."] : sentences;
}

function speed(report: Report): string[] {
  const pair = pairOf(report);
  if (pair === undefined) return [];
  const both = (series: readonly Measured[]): readonly [Measured, Measured] | undefined => {
    const [one, other] = pair.map((name) => series.find((measured) => measured.name === name));
    return one === undefined || other === undefined ? undefined : [one, other];
  };
  const prefill = both(byLength(report, "prefill", ({ seconds }) => seconds));
  const decode = both(byLength(report, "decode", ({ tokensPerSecond }) => tokensPerSecond));
  const memory = both(byLength(report, "decode", ({ memoryBytes }) => memoryBytes || undefined));
  const batch = both(byBatch(report, ({ tokensPerSecond }) => tokensPerSecond));
  return [
    prefill === undefined ? "" : prefillSentence(...prefill),
    decode === undefined ? "" : decodeSentence(...decode),
    memory === undefined ? "" : memorySentence(...memory),
    batch === undefined ? "" : batchSentence(...batch),
  ];
}

function prefillSentence(one: Measured, other: Measured): string {
  const last = lastShared([one, other]);
  if (last === undefined) return "";
  const values = [one, other]
    .map(({ name, points }) => ({ name, y: at(points, last) ?? 0 }))
    .toSorted((a, b) => a.y - b.y);
  const [fast, slow] = values;
  const end = `at ${length(last)} tokens ${seconds(fast.y)} instead of ${seconds(slow.y)}, ${timesAs("fast", slow.y / fast.y)}`;
  const from = fast.name === one.name ? crossover(one, other) : crossover(other, one);
  const where = from === undefined || from === 0 ? "at every length that both read" : `from ${length(from)} tokens on`;
  return `Reading a prompt, ${fast.name} is faster than ${slow.name} ${where}: ${end}.`;
}

function decodeSentence(one: Measured, other: Measured): string {
  const last = lastShared([one, other]);
  if (last === undefined) return "";
  const values = [one, other]
    .map(({ name, points }) => ({ name, y: at(points, last) ?? 0 }))
    .toSorted((a, b) => b.y - a.y);
  const [fast, slow] = values;
  return `After ${length(last)} tokens of context, ${fast.name} writes ${count(fast.y)} tokens/s and ${slow.name} ${count(slow.y)}: ${timesAs("fast", fast.y / slow.y)}.`;
}

function memorySentence(one: Measured, other: Measured): string {
  const last = lastShared([one, other]);
  if (last === undefined) return "";
  const tell = ({ name, points }: Measured): string => `${bytes(at(points, last) ?? 0)} (${name})`;
  return `After ${length(last)} tokens one sequence keeps ${tell(one)} and ${tell(other)} in memory.`;
}

function batchSentence(one: Measured, other: Measured): string {
  const best = [one, other]
    .map(({ name, points }) => ({ name, ...points.reduce((top, point) => (point.y > top.y ? point : top)) }))
    .toSorted((a, b) => b.y - a.y);
  const [high, low] = best;
  return `With many sequences side by side, ${high.name} reaches ${count(high.y)} tokens/s (${high.x} sequences) and ${low.name} ${count(low.y)} (${low.x}): ${timesAs("much", high.y / low.y)}.`;
}

function extrapolation(report: Report): string[] {
  const trained = report.models.find(({ training }) => training !== undefined)?.training?.length;
  if (trained === undefined) return [];
  const isAccuracy = report.models.some((model) => model.extrapolation?.some(({ accuracy }) => accuracy !== undefined));
  const all = measure(report, (model) =>
    model.extrapolation?.map((point) => ({ x: point.length, y: isAccuracy ? point.accuracy : point.lossNats })),
  );
  const last = lastShared(all);
  if (last === undefined || last <= trained) return [];
  const values = all
    .map(({ name, points }) => ({ name, y: at(points, last) ?? 0 }))
    .toSorted((a, b) => (isAccuracy ? b.y - a.y : a.y - b.y));
  const format = isAccuracy ? percent : (value: number): string => digits(value);
  const what = isAccuracy ? "accuracy" : "loss in nats";
  const [best, worst] = [values[0], values[values.length - 1]];
  const numbers =
    best === worst
      ? `${best.name} ${format(best.y)}`
      : `${best.name} ${format(best.y)} is best, ${worst.name} ${format(worst.y)} is last`;
  return [`At ${length(last)} tokens, ${times(last / trained)} the length of training (${what}): ${numbers}.`];
}

/** Of reading prompts: which models ended where, and why; those of one place and reason together. */
function stops(report: Report): string[] {
  const groups = new Map<string, string[]>();
  for (const { model, what, at, reason } of allStops(report)) {
    if (what !== "Reading") continue;
    const place = `at ${at} (${shortReason(reason, 60)})`;
    groups.set(place, [...(groups.get(place) ?? []), model]);
  }
  const parts = [...groups].map(
    ([place, models]) => `${models.length > 4 ? `${models.length} models` : sentenceList(models)} ${place}`,
  );
  return parts.length === 0 ? [] : [`Reading a prompt ended for ${parts.join("; for ")}.`];
}

export interface Stop {
  readonly model: string;
  readonly what: "Reading" | "Writing" | "Side by side" | "Training" | "Extrapolation";
  readonly at: string;
  readonly reason: string;
}

/** Of each model and measurement: the first that could not be measured. */
export function allStops(report: Report): Stop[] {
  return report.models.flatMap(({ name, speed, extrapolation }) => {
    const first = <P extends { readonly stopped?: string }>(
      what: Stop["what"],
      points: readonly P[] | undefined,
      place: (point: P) => string,
    ): Stop[] => {
      const point = points?.find(({ stopped }) => stopped !== undefined);
      return point?.stopped === undefined ? [] : [{ model: name, what, at: place(point), reason: point.stopped }];
    };
    const atLength = (point: { readonly length: number }): string => `${length(point.length)} tokens`;
    return [
      ...first("Reading", speed?.prefill, atLength),
      ...first("Writing", speed?.decode, atLength),
      ...first("Side by side", speed?.batch, ({ batch }) => `${batch} sequences`),
      ...first("Training", speed?.training, atLength),
      ...first("Extrapolation", extrapolation, atLength),
    ];
  });
}

function sweepSentence(report: Report): string {
  return report.sweep === undefined ? "" : sweepCaption(report, "parameters");
}

function unfinished(report: Report): string[] {
  const words = { failed: "failed", skipped: "was skipped", pending: "is not done yet", done: "" };
  const rest = report.models.filter(({ status }) => status !== "done");
  return rest.length === 0
    ? []
    : [`Not compared: ${sentenceList(rest.map((model) => `${model.name} ${words[model.status]}`))}.`];
}
