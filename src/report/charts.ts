// The charts of a report: each a function from the report to an SVG, or to nothing where there is nothing to show.
import type { Chart } from "./chart.ts";
import * as quality from "./quality-charts.ts";
import type { Report } from "./schema.ts";
import * as speed from "./speed-charts.ts";
import { sweepChart } from "./sweep-chart.ts";

export type { Chart } from "./chart.ts";

/** In the order of the page. */
const CHARTS: readonly ((report: Report) => Chart | undefined)[] = [
  quality.qualityChart,
  quality.trainingCurve,
  quality.trainingAccuracy,
  quality.lossByPosition,
  quality.extrapolation,
  speed.prefillPerToken,
  speed.prefill,
  speed.memory,
  speed.decode,
  speed.decodeMemory,
  speed.batch,
  speed.trainingSpeed,
  (report) => sweepChart(report, "parameters"),
  (report) => sweepChart(report, "flops"),
];

/** All charts that have data. */
export function drawCharts(report: Report): Chart[] {
  return CHARTS.flatMap((draw) => draw(report) ?? []);
}
