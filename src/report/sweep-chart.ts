// Loss against size or compute, with the fitted power laws: the scaling curves of the paper (figure 4).
import { sweepCaption } from "./captions.ts";
import { styleOf } from "./chart.ts";
import type { Chart } from "./chart.ts";
import { predict } from "./fit.ts";
import type { Point } from "./fit.ts";
import { drawLines } from "./line-chart.ts";
import type { Series } from "./line-chart.ts";
import { count, digits } from "./numbers.ts";
import type { Report, SweepAxis } from "./schema.ts";
import { stylesOf } from "./style.ts";

const SAMPLES = 48;

export function sweepChart(report: Report, against: SweepAxis): Chart | undefined {
  const { sweep } = report;
  if (sweep === undefined || sweep.points.length === 0) return undefined;
  const styles = stylesOf(report);
  const architectures = [...new Set(sweep.points.map(({ architecture }) => architecture))];
  const series = architectures.map((architecture): Series => {
    const points = sweep.points
      .filter((point) => point.architecture === architecture)
      .map((point) => ({ x: point[against], y: point.lossNats }))
      .toSorted((a, b) => a.x - b.x);
    const fit = sweep.fits.find((fit) => fit.architecture === architecture && fit.against === against);
    const style = styleOf(styles, architecture);
    if (fit === undefined) return { name: architecture, style, points };
    const curve = sample(points, (x) => predict(fit, x));
    return { name: architecture, style, points, under: curve, isScattered: true };
  });
  const title = against === "parameters" ? "Loss against size" : "Loss against compute";
  const rule = sweep.rule === undefined ? "" : `; ${sweep.rule}`;
  const caption = sweepCaption(report, against);
  const chart = {
    title,
    subtitle: `held-out loss, nats per token; both axes logarithmic; lower is better${rule}`,
    description: caption,
    x: {
      label: against === "parameters" ? "parameters" : "operations of training (FLOP)",
      scale: "log10" as const,
      format: against === "parameters" ? count : scientific,
    },
    y: { label: "loss", scale: "log10" as const, format: (value: number) => digits(value, 2) },
    series,
  };
  return { id: `sweep-${against}`, title, caption, svg: drawLines(chart) };
}

/** The law between the first and the last point, even in logarithms. */
function sample(points: readonly Point[], law: (x: number) => number): Point[] {
  const [from, to] = [points[0].x, points[points.length - 1].x];
  return Array.from({ length: SAMPLES }, (_, i) => {
    const x = from * (to / from) ** (i / (SAMPLES - 1));
    return { x, y: law(x) };
  });
}

/** `10^15`, `2·10^15`; charts raise the exponent. */
function scientific(value: number): string {
  const exponent = Math.floor(Math.log10(value) + 1e-9);
  const mantissa = Number((value / 10 ** exponent).toPrecision(3));
  return mantissa === 1 ? `10^${exponent}` : `${mantissa}·10^${exponent}`;
}
