// A chart of a report, and what most of them share: lines of all models, with references, rules and a caption.
import type { Axis } from "./axes.ts";
import { stopCaption } from "./captions.ts";
import { drawLines } from "./line-chart.ts";
import type { Rule, Series } from "./line-chart.ts";
import type { Point } from "./fit.ts";
import { bytes, count, percent, power, seconds, short } from "./numbers.ts";
import type { ReferenceChart, Report } from "./schema.ts";
import type { Measured } from "./series.ts";
import { referenceStyle, stylesOf } from "./style.ts";
import type { Style } from "./style.ts";

export interface Chart {
  /** Also the name of its file. */
  readonly id: string;
  readonly title: string;
  /** What to see in it; may be empty. */
  readonly caption: string;
  /** A whole SVG document. */
  readonly svg: string;
}

interface Lines {
  readonly id: string;
  readonly title: string;
  /** What is measured, its unit, and which direction is better. */
  readonly subtitle: string;
  readonly caption: () => string;
  readonly x: Axis;
  readonly y: Axis;
  readonly measured: readonly Measured[];
  /** What the stops are places of: "length", "batch". */
  readonly unit?: string;
  readonly rules?: readonly Rule[];
  readonly under?: ReadonlyMap<string, readonly Point[]>;
  readonly clipAbove?: number;
  /** Which series of other software belong into this chart, and what of them is shown. */
  readonly reference?: ReferenceChart;
  readonly referenceValue?: (x: number, y: number) => number;
}

/** The chart of these lines; nothing where nothing was measured. */
export function lines(report: Report, chart: Lines): Chart | undefined {
  if (chart.measured.length === 0) return undefined;
  const styles = stylesOf(report);
  const series: Series[] = chart.measured.map((one) => {
    const under = chart.under?.get(one.name);
    return { ...one, style: styleOf(styles, one.name), ...(under === undefined ? {} : { under }) };
  });
  const value = chart.referenceValue ?? ((_: number, y: number): number => y);
  const references = (report.references ?? [])
    .filter((reference) => reference.chart === chart.reference)
    .map(({ name, points }, i) => ({
      name,
      style: referenceStyle(i),
      points: points.map(({ x, y }) => ({ x, y: value(x, y) })).toSorted((a, b) => a.x - b.x),
    }));
  const caption = [chart.caption(), chart.unit === undefined ? "" : stopCaption(chart.measured, chart.unit)]
    .filter((sentence) => sentence !== "")
    .join(" ");
  const { id, title } = chart;
  return { id, title, caption, svg: drawLines({ ...chart, description: caption, series: [...series, ...references] }) };
}

export function styleOf(styles: ReadonlyMap<string, Style>, name: string): Style {
  return styles.get(name) ?? referenceStyle(0);
}

export function lengthAxis(label: string): Axis {
  return { label, scale: "log2", format: power };
}

export function tokenAxis(): Axis {
  return { label: "tokens of training", scale: "linear", format: count, include: [0] };
}

export function secondAxis(label: string): Axis {
  return { label, scale: "log10", format: seconds };
}

export function byteAxis(label: string): Axis {
  return { label, scale: "log2", format: bytes };
}

export function rateAxis(label: string): Axis {
  return { label, scale: "log10", format: count };
}

export function shareAxis(label: string): Axis {
  return { label, scale: "linear", format: (value) => `${short(value * 100)} %`, include: [0, 1] };
}

/** The accuracy of guessing, of a task that knows it. */
export function chanceRule(report: Report): Rule[] {
  const { chance } = report.data;
  return chance === undefined ? [] : [{ axis: "y", at: chance, label: `guessing: ${percent(chance)}` }];
}
