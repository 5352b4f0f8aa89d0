// The measurements of a report as series of points, for charts and for the sentences about them.
import type { Point } from "./fit.ts";
import type { BatchPoint, Evaluation, LengthPoint, ModelReport, Report, SpeedReport } from "./schema.ts";

export interface Measured {
  readonly name: string;
  readonly points: readonly Point[];
  readonly stopped?: string;
  /** The length (or batch) that could not be measured. */
  readonly stoppedAt?: number;
}

/** Series of all models that have at least one point, sorted by x. */
export function measure(
  report: Report,
  pick: (
    model: ModelReport,
  ) => readonly { x: number; y: number | undefined; stopped?: string | undefined }[] | undefined,
): Measured[] {
  return report.models.flatMap((model) => {
    const all = (pick(model) ?? []).toSorted((a, b) => a.x - b.x);
    const points = all.flatMap(({ x, y }) => (y === undefined ? [] : [{ x, y }]));
    if (points.length === 0) return [];
    const stop = all.find(({ stopped }) => stopped !== undefined);
    const { name } = model;
    return [
      stop?.stopped === undefined ? { name, points } : { name, points, stopped: stop.stopped, stoppedAt: stop.x },
    ];
  });
}

/** A kind of speed, by length. */
export function byLength(
  report: Report,
  kind: Exclude<keyof SpeedReport, "batch">,
  value: (point: LengthPoint) => number | undefined,
): Measured[] {
  return measure(report, ({ speed }) =>
    speed?.[kind]?.map((point) => ({ x: point.length, y: value(point), stopped: point.stopped })),
  );
}

export function byBatch(report: Report, value: (point: BatchPoint) => number | undefined): Measured[] {
  return measure(report, ({ speed }) =>
    speed?.batch?.map((point) => ({ x: point.batch, y: value(point), stopped: point.stopped })),
  );
}

/** What quality is measured by: the best measure that any model has. */
export interface QualityMeasure {
  readonly key: "accuracy" | "bitsPerByte" | "lossNats" | "perplexity";
  readonly label: string;
  readonly isHigherBetter: boolean;
}

const MEASURES: readonly QualityMeasure[] = [
  { key: "bitsPerByte", label: "bits per byte", isHigherBetter: false },
  { key: "lossNats", label: "loss, nats per token", isHigherBetter: false },
  { key: "perplexity", label: "perplexity", isHigherBetter: false },
];
const ACCURACY: QualityMeasure = { key: "accuracy", label: "accuracy", isHigherBetter: true };

export function qualityMeasure(report: Report): QualityMeasure | undefined {
  const all = report.models.flatMap(({ quality }) => quality?.evaluations ?? []);
  const order = report.data.kind === "task" ? [ACCURACY, ...MEASURES] : [...MEASURES, ACCURACY];
  return order.find(({ key }) => all.some((evaluation) => evaluation[key] !== undefined));
}

export interface Score {
  readonly name: string;
  readonly value: number;
}

/** Of each held-out text: the models, the best first. */
export function scores(
  report: Report,
  by: QualityMeasure,
): { readonly name: string; readonly scores: readonly Score[] }[] {
  const names = new Set(report.models.flatMap(({ quality }) => (quality?.evaluations ?? []).map(({ name }) => name)));
  return [...names].flatMap((name) => {
    const scores = report.models.flatMap((model) => {
      const value = evaluationOf(model, name)?.[by.key];
      return value === undefined ? [] : [{ name: model.name, value }];
    });
    if (scores.length === 0) return [];
    return [{ name, scores: scores.toSorted((a, b) => (by.isHigherBetter ? b.value - a.value : a.value - b.value)) }];
  });
}

function evaluationOf(model: ModelReport, name: string): Evaluation | undefined {
  return model.quality?.evaluations.find((evaluation) => evaluation.name === name);
}

/** The value at this x exactly. */
export function at(points: readonly Point[], x: number): number | undefined {
  return points.find((point) => point.x === x)?.y;
}

/** The largest x that all of these have. */
export function lastShared(series: readonly Measured[]): number | undefined {
  if (series.length === 0) return undefined;
  const [first, ...rest] = series;
  return first.points.findLast(({ x }) => rest.every(({ points }) => at(points, x) !== undefined))?.x;
}

/**
 * From which x on `one` lies below `other` at all x that both have, where it lay above before. 0: it always lay below;
 * undefined: at the end it does not.
 */
export function crossover(one: Measured, other: Measured): number | undefined {
  const shared = one.points.flatMap(({ x, y }) => {
    const against = at(other.points, x);
    return against === undefined ? [] : [{ x, isBelow: y < against }];
  });
  const lastAbove = shared.findLastIndex(({ isBelow }) => !isBelow);
  if (lastAbove === shared.length - 1) return undefined;
  return lastAbove === -1 ? 0 : shared[lastAbove + 1].x;
}
