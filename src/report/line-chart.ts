// Lines over lengths, batches, tokens or sizes: one a model, with its name at its end, and a cross where it had to stop.
import * as Plot from "@observablehq/plot";
import { rangeOf, spread } from "./axes.ts";
import type { Axis, Range } from "./axes.ts";
import { element, finish, fitted, newDocument, WIDTH, widthOf } from "./frame.ts";
import type { Heading } from "./frame.ts";
import type { Point } from "./fit.ts";
import { shortReason } from "./numbers.ts";
import { GRID, INK, MUTED } from "./style.ts";
import type { Style } from "./style.ts";

export interface Series {
  readonly name: string;
  readonly style: Style;
  readonly points: readonly Point[];
  /** Why the line ends where it ends. */
  readonly stopped?: string;
  /** The first x that could not be measured. */
  readonly stoppedAt?: number;
  /** Thin and pale, without marks and name: what the named line is the mean of, or a fit through its points. */
  readonly under?: readonly Point[];
  /** Marks without a line through them. */
  readonly isScattered?: boolean;
}

/** A straight line across: the training length, guessing. */
export interface Rule {
  readonly axis: "x" | "y";
  readonly at: number;
  readonly label: string;
}

export interface LineChart extends Heading {
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  readonly rules?: readonly Rule[];
  /** Values of y above are cut off: the first steps of training. */
  readonly clipAbove?: number;
}

interface Layout {
  readonly x: Range;
  readonly y: Range;
  readonly right: number;
  readonly names: readonly string[];
  /** Below each name: where and why it stopped; empty for most. */
  readonly stops: readonly string[];
  /** Between names. */
  readonly gap: number;
  readonly height: number;
  /** Where the axis below lies. */
  readonly bottom: number;
}

const LEAST_HEIGHT = 420;
const TOP = 66;
const BOTTOM = 46;
const LEFT = 70;
const NAME_GAP = 17;
const STOP_GAP = 31;
const MOST_NAME = 180;
const MOST_MARKS = 24;

export function drawLines(chart: LineChart): string {
  const document = newDocument();
  const series = chart.series.filter(({ points }) => points.length > 0);
  const layout = layOut(chart, series);
  const plot = Plot.plot({
    document,
    width: WIDTH,
    height: layout.height,
    marginTop: TOP,
    marginBottom: BOTTOM,
    marginLeft: LEFT,
    marginRight: layout.right,
    style: { overflow: "visible" },
    axis: null,
    x: scaleOf(chart.x, layout.x),
    y: scaleOf(chart.y, layout.y),
    marks: [...axisMarks(chart, layout), ...series.flatMap((one) => seriesMarks(one, chart, layout))],
  }) as unknown as Element & Plot.Plot;
  const [x, y] = [positions(plot, "x"), positions(plot, "y")];
  labelAxes(document, plot, chart, layout, x, y);
  labelRules(document, plot, chart, layout, x, y);
  markStops(document, plot, series, x, y);
  labelNames(document, plot, series, layout, x, y);
  return finish(document, plot, chart);
}

function layOut(chart: LineChart, series: readonly Series[]): Layout {
  const xs = series.flatMap(({ points }) => points.map(({ x }) => x));
  const ys = series
    .flatMap(({ points, under }) => [...points, ...(under ?? [])].map(({ y }) => y))
    .filter((y) => y <= (chart.clipAbove ?? Infinity));
  for (const { axis, at } of chart.rules ?? []) (axis === "x" ? xs : ys).push(at);
  const names = series.map(({ name }) => fitted(name, MOST_NAME));
  const stops = series.map((one) => fitted(stopText(one, chart.x), MOST_NAME, 10.5));
  const widths = [...names.map((name) => widthOf(name)), ...stops.map((stop) => widthOf(stop, 10.5))];
  const gap = stops.some((stop) => stop !== "") ? STOP_GAP : NAME_GAP;
  const height = Math.max(LEAST_HEIGHT, TOP + BOTTOM + (series.length - 1) * gap);
  return {
    x: rangeOf(xs, chart.x, chart.x.scale === "log2" ? 12 : 7, chart.x.scale === "log2"),
    y: rangeOf(ys, chart.y, 6),
    right: Math.max(40, ...widths) + 48,
    names,
    stops,
    gap,
    height,
    bottom: height - BOTTOM,
  };
}

function stopText({ stopped, stoppedAt }: Series, axis: Axis): string {
  if (stopped === undefined) return "";
  return `${stoppedAt === undefined ? "" : `${axis.format(stoppedAt)}: `}${shortReason(stopped)}`;
}

function scaleOf(axis: Axis, range: Range): Plot.ScaleOptions {
  const domain = [...range.domain];
  return axis.scale === "linear" ? { type: "linear", domain } : { type: "log", domain };
}

function axisMarks(chart: LineChart, layout: Layout): Plot.Markish[] {
  const rules = chart.rules ?? [];
  const at = (wanted: "x" | "y"): number[] => rules.filter(({ axis }) => axis === wanted).map(({ at }) => at);
  const dashed = { stroke: MUTED, strokeDasharray: "3 3" };
  return [
    Plot.gridY(layout.y.ticks, { stroke: GRID, strokeOpacity: 1 }),
    Plot.ruleX(at("x"), dashed),
    Plot.ruleY(at("y"), dashed),
  ];
}

function seriesMarks(series: Series, chart: LineChart, layout: Layout): Plot.Markish[] {
  const { style } = series;
  const isInside = ({ y }: Point): boolean => y <= layout.y.domain[1] && y >= layout.y.domain[0];
  const clip = chart.clipAbove !== undefined;
  const stroke = { x: "x", y: "y", stroke: style.colour, clip };
  const dash = style.dash === "" ? {} : { strokeDasharray: style.dash };
  const marks: Plot.Markish[] = [];
  if (series.under !== undefined)
    marks.push(Plot.line([...series.under], { ...stroke, strokeWidth: 1.25, strokeOpacity: 0.5 }));
  if (series.isScattered !== true) marks.push(Plot.line([...series.points], { ...stroke, strokeWidth: 2, ...dash }));
  if (series.isScattered === true || series.points.length <= MOST_MARKS)
    marks.push(
      Plot.dot(series.points.filter(isInside), { x: "x", y: "y", fill: style.colour, symbol: style.symbol, r: 3.5 }),
    );
  return marks;
}

type Position = (value: number) => number;

function positions(plot: Plot.Plot, name: "x" | "y"): Position {
  const scale = plot.scale(name);
  return (value) => Number(scale?.apply(value));
}

/** Ticks and their numbers, by hand: Plot leaves out labels of logarithmic axes as it sees fit. */
function labelAxes(
  document: Document,
  plot: Element,
  chart: LineChart,
  layout: Layout,
  x: Position,
  y: Position,
): void {
  const [bottom, edge] = [layout.bottom, WIDTH - layout.right];
  plot.append(element(document, "path", { d: `M${LEFT},${bottom}H${edge}`, stroke: MUTED, fill: "none" }));
  for (const tick of layout.y.ticks)
    plot.append(element(document, "text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, chart.y.format(tick)));
  for (const tick of layout.x.ticks) {
    plot.append(element(document, "path", { d: `M${x(tick)},${bottom}v5`, stroke: MUTED, fill: "none" }));
    plot.append(element(document, "text", { x: x(tick), y: bottom + 19 }, chart.x.format(tick)));
  }
  const middle = { x: (LEFT + edge) / 2, y: layout.height - 8, fill: MUTED };
  plot.append(element(document, "text", middle, chart.x.label));
}

function labelRules(
  document: Document,
  plot: Element,
  chart: LineChart,
  layout: Layout,
  x: Position,
  y: Position,
): void {
  for (const rule of chart.rules ?? []) {
    const place =
      rule.axis === "x"
        ? { x: x(rule.at), y: TOP - 6, "text-anchor": x(rule.at) < LEFT + 50 ? "start" : "middle" }
        : { x: WIDTH - layout.right - 2, y: y(rule.at) - 5, "text-anchor": "end" };
    plot.append(element(document, "text", { ...place, ...halo(), fill: MUTED, "font-size": 11 }, rule.label));
  }
}

/** A cross at the last point that could be measured; why, stands below the name. */
function markStops(document: Document, plot: Element, series: readonly Series[], x: Position, y: Position): void {
  for (const { points, stopped, style } of series) {
    if (stopped === undefined) continue;
    const last = points[points.length - 1];
    const [left, top] = [x(last.x), clamp(y(last.y))];
    const arms = `M${left - 5},${top - 5}L${left + 5},${top + 5}M${left - 5},${top + 5}L${left + 5},${top - 5}`;
    plot.append(element(document, "path", { d: arms, stroke: "#ffffff", "stroke-width": 5, fill: "none" }));
    plot.append(element(document, "path", { d: arms, stroke: style.colour, "stroke-width": 2.5, fill: "none" }));
  }
}

/** Names at the right edge, at the height of their lines' ends or near it, each with its mark. */
function labelNames(
  document: Document,
  plot: Element,
  series: readonly Series[],
  layout: Layout,
  x: Position,
  y: Position,
): void {
  const ends = series.map(({ points }) => points.reduce((last, point) => (point.x > last.x ? point : last)));
  const heights = spread(
    ends.map((end) => clamp(y(end.y))),
    layout.gap,
    TOP,
    layout.bottom,
  );
  const edge = WIDTH - layout.right;
  for (const [i, { style }] of series.entries()) {
    const [from, height] = [clamp(y(ends[i].y)), heights[i]];
    const isAtEdge = edge - x(ends[i].x) < 24;
    if (isAtEdge)
      plot.append(
        element(document, "path", {
          d: `M${x(ends[i].x) + 6},${from}L${edge + 10},${height}`,
          stroke: style.colour,
          "stroke-opacity": 0.45,
          fill: "none",
        }),
      );
    plot.append(...nameMark(document, style, edge + 18, height));
    const place = { x: edge + 36, y: height + 4, "text-anchor": "start", fill: INK };
    plot.append(element(document, "text", place, layout.names[i]));
    const stop = layout.stops[i];
    if (stop !== "")
      plot.append(element(document, "text", { ...place, y: height + 17, fill: MUTED, "font-size": 10.5 }, stop));
  }
}

function nameMark(document: Document, style: Style, x: number, y: number): Element[] {
  const line = { x1: x - 7, x2: x + 11, y1: y, y2: y, stroke: style.colour, "stroke-width": 2 };
  const dashed = style.dash === "" ? line : { ...line, "stroke-dasharray": style.dash };
  const path = symbolPath(style.symbol);
  return [
    element(document, "line", dashed),
    element(document, "path", { d: path, transform: `translate(${x + 2},${y})`, fill: style.colour }),
  ];
}

/** The mark of Plot's own symbols, so that names have the marks of their lines. */
function symbolPath(symbol: Style["symbol"]): string {
  const drawn = Plot.dot([{ x: 0, y: 0 }], { x: "x", y: "y", symbol, r: 4 });
  const document = newDocument();
  const plot = Plot.plot({ document, width: 20, height: 20, axis: null, marks: [drawn] });
  return plot.querySelector("path")?.getAttribute("d") ?? "M-3.5,0a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0Z";
}

function halo(): Record<string, string | number> {
  return { stroke: "#ffffff", "stroke-width": 4, "stroke-linejoin": "round", "paint-order": "stroke" };
}

/** A line that is cut off above ends at the edge. */
function clamp(y: number): number {
  return Math.max(TOP, y);
}
