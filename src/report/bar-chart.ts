// Bars from zero, one a model, in groups: quality on each held-out text. The number stands at the end of its bar.
import * as Plot from "@observablehq/plot";
import { rangeOf } from "./axes.ts";
import type { Axis } from "./axes.ts";
import { element, finish, fitted, newDocument, WIDTH, widthOf } from "./frame.ts";
import type { Heading } from "./frame.ts";
import { GRID, MUTED } from "./style.ts";
import type { Style } from "./style.ts";

export interface Bar {
  readonly name: string;
  readonly style: Style;
  readonly value: number;
  /** `1.514 (+3.1 %)` */
  readonly label: string;
}

export interface BarChart extends Heading {
  readonly axis: Axis;
  readonly groups: readonly { readonly name: string; readonly bars: readonly Bar[] }[];
}

const TOP = 60;
const BOTTOM = 46;
const ROW = 24;
const MOST_NAME = 190;

export function drawBars(chart: BarChart): string {
  const document = newDocument();
  const isNamed = chart.groups.length > 1;
  // A row is a bar, or the heading of a group; each has a key of its own, for names repeat from group to group.
  const rows = chart.groups.flatMap(({ name, bars }, group) => [
    ...(isNamed ? [{ key: `${group}`, heading: name, bar: undefined }] : []),
    ...bars.map((bar, i) => ({ key: `${group}.${i}`, heading: undefined, bar })),
  ]);
  const bars = rows.flatMap(({ key, bar }) => (bar === undefined ? [] : [{ key, ...bar }]));
  const left = Math.min(MOST_NAME, Math.max(...bars.map(({ name }) => widthOf(name)))) + 34;
  const right = Math.max(...bars.map(({ label }) => widthOf(label))) + 20;
  const range = rangeOf([0, ...bars.map(({ value }) => value)], chart.axis, 6);
  const height = TOP + BOTTOM + rows.length * ROW;
  const plot = Plot.plot({
    document,
    width: WIDTH,
    height,
    marginTop: TOP,
    marginBottom: BOTTOM,
    marginLeft: left,
    marginRight: right,
    axis: null,
    x: { domain: [...range.domain] },
    y: { type: "band", domain: rows.map(({ key }) => key), padding: 0.25 },
    marks: [
      Plot.gridX([...range.ticks], { stroke: GRID, strokeOpacity: 1 }),
      Plot.barX(bars, { x1: 0, x2: "value", y: "key", fill: (bar: Bar) => bar.style.colour }),
      Plot.ruleX([0], { stroke: MUTED }),
    ],
  }) as unknown as Element & Plot.Plot;
  const [scale, band] = [plot.scale("x"), plot.scale("y")];
  const x = (value: number): number => Number(scale?.apply(value));
  const y = (key: string): number => Number(band?.apply(key)) + (band?.bandwidth ?? 0) / 2 + 4;
  const write = (text: string, attributes: Readonly<Record<string, string | number>>): void =>
    plot.append(element(document, "text", attributes, text));
  for (const { key, heading } of rows)
    if (heading !== undefined)
      write(fitted(heading, WIDTH - 40), { x: 16, y: y(key) + 2, "text-anchor": "start", "font-weight": 600 });
  for (const { key, name, value, label } of bars) {
    write(fitted(name, MOST_NAME), { x: left - 8, y: y(key), "text-anchor": "end" });
    write(label, { x: x(value) + 6, y: y(key), "text-anchor": "start" });
  }
  for (const tick of range.ticks) write(chart.axis.format(tick), { x: x(tick), y: height - BOTTOM + 18 });
  write(chart.axis.label, { x: (left + WIDTH - right) / 2, y: height - 8, fill: MUTED });
  return finish(document, plot, chart);
}
