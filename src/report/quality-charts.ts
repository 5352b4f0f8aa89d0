// Charts of what the models have learned: held-out data, the course of training, positions, lengths beyond training.
import type { Axis } from "./axes.ts";
import { drawBars } from "./bar-chart.ts";
import * as captions from "./captions.ts";
import { chanceRule, lengthAxis, lines, shareAxis, styleOf, tokenAxis } from "./chart.ts";
import type { Chart } from "./chart.ts";
import { digits, percent, short } from "./numbers.ts";
import type { Report } from "./schema.ts";
import { measure, qualityMeasure, scores } from "./series.ts";
import type { QualityMeasure } from "./series.ts";
import { stylesOf } from "./style.ts";

export function qualityChart(report: Report): Chart | undefined {
  const by = qualityMeasure(report);
  if (by === undefined) return undefined;
  const styles = stylesOf(report);
  const label = ({ value }: { value: number }, i: number, all: readonly { value: number }[]): string =>
    i === 0 ? captions.formatScore(value, by) : `${captions.formatScore(value, by)}${behind(all[0].value, value, by)}`;
  const groups = scores(report, by).map(({ name, scores }) => ({
    name,
    bars: scores.map((score, i) => ({ ...score, style: styleOf(styles, score.name), label: label(score, i, scores) })),
  }));
  const title = "Quality on held-out data";
  const caption = captions.qualityCaption(report);
  const axis: Axis = {
    label: by.label,
    scale: "linear",
    format: by.key === "accuracy" ? (value) => `${short(value * 100)} %` : (value) => short(value),
  };
  const subtitle = `${by.label}; ${by.isHigherBetter ? "longer bars are" : "shorter bars are"} better`;
  return { id: "quality", title, caption, svg: drawBars({ title, subtitle, description: caption, axis, groups }) };
}

/** `+3.1 %`, `-12.0 points`. */
function behind(best: number, value: number, by: QualityMeasure): string {
  if (by.key === "accuracy") return value === best ? "" : ` (−${((best - value) * 100).toFixed(1)} points)`;
  return ` (+${((value / best - 1) * 100).toFixed(1)} %)`;
}

/** Smaller losses of what was learned to the end are drawn here: a logarithmic axis has no place for them. */
const LEAST_LOSS = 1e-4;

export function trainingCurve(report: Report): Chart | undefined {
  const drawn = (loss: number | undefined): number | undefined =>
    loss === undefined ? undefined : Math.max(loss, LEAST_LOSS);
  const trained = measure(report, ({ training }) =>
    training?.curve.map(({ tokens, lossNats }) => ({ x: tokens, y: drawn(lossNats) })),
  );
  const held = measure(report, ({ training }) =>
    training?.curve.map(({ tokens, evalLossNats }) => ({ x: tokens, y: drawn(evalLossNats) })),
  ).filter(({ points }) => points.length > 1);
  const all = held.length > 0 ? held : trained;
  const under = held.length > 0 ? new Map(trained.map(({ name, points }) => [name, points])) : undefined;
  // The fall from chance within the first steps would press the rest flat; it is cut off.
  const early = trained.concat(held).map(({ points }) => points[Math.floor(points.length * 0.05)].y);
  const what = held.length > 0 ? "held-out loss" : "training loss";
  return lines(report, {
    id: "training-loss",
    title: "Loss while training",
    subtitle: `${held.length > 0 ? "held-out loss (pale: training loss)" : "training loss"}, nats per token; lower is better`,
    x: tokenAxis(),
    y: { label: what, scale: "log10", format: (value) => digits(value, 2) },
    measured: all,
    caption: () => captions.endCaption(all, what, (value) => `${digits(value)} nats per token`),
    ...(under === undefined ? {} : { under }),
    clipAbove: Math.max(...early),
  });
}

export function trainingAccuracy(report: Report): Chart | undefined {
  const all = measure(report, ({ training }) =>
    training?.curve.map(({ tokens, evalAccuracy }) => ({ x: tokens, y: evalAccuracy })),
  ).filter(({ points }) => points.length > 1);
  return lines(report, {
    id: "training-accuracy",
    title: "Accuracy while training",
    subtitle: "accuracy on held-out examples; higher is better",
    x: tokenAxis(),
    y: shareAxis("accuracy"),
    measured: all,
    caption: () => captions.endCaption(all, "accuracy", percent, true),
    rules: chanceRule(report),
  });
}

export function lossByPosition(report: Report): Chart | undefined {
  const all = measure(report, ({ quality }) =>
    quality?.lossByPosition?.map(({ position, lossNats }) => ({ x: Math.max(1, position), y: lossNats })),
  );
  return lines(report, {
    id: "loss-by-position",
    title: "Loss by position in the context",
    subtitle: "nats per token; lower is better, and a line that still falls at the right uses long context",
    x: lengthAxis("tokens before the predicted one"),
    y: { label: "loss", scale: "linear", format: (value) => short(value) },
    measured: all,
    caption: () => captions.endCaption(all, "loss", (value) => `${digits(value)} nats per token`),
  });
}

export function extrapolation(report: Report): Chart | undefined {
  const isAccuracy = report.models.some(({ extrapolation }) =>
    extrapolation?.some(({ accuracy }) => accuracy !== undefined),
  );
  const all = measure(report, ({ extrapolation }) =>
    extrapolation?.map((point) => ({
      x: point.length,
      y: isAccuracy ? point.accuracy : point.lossNats,
      stopped: point.stopped,
    })),
  );
  const trained = report.models.find(({ training }) => training !== undefined)?.training?.length;
  const lengthRule = trained === undefined ? [] : [{ axis: "x" as const, at: trained, label: "trained to here" }];
  const ys = all.flatMap(({ points }) => points.map(({ y }) => y));
  const isWide = Math.max(...ys) > 3 * Math.min(...ys);
  return lines(report, {
    id: "extrapolation",
    title: "Beyond the length of training",
    subtitle: isAccuracy ? "accuracy; higher is better" : "loss, nats per token; lower is better",
    x: lengthAxis("length, tokens"),
    y: isAccuracy
      ? shareAxis("accuracy")
      : { label: "loss", scale: isWide ? "log10" : "linear", format: (value) => short(value) },
    measured: all,
    caption: () => captions.extrapolationCaption(all, trained, isAccuracy),
    unit: "length",
    rules: [...lengthRule, ...(isAccuracy ? chanceRule(report) : [])],
  });
}
