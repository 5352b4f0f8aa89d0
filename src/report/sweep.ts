// From the losses of a sweep over sizes: the fitted laws, and how much one architecture needs for another's loss.
import { fitPowerLaw, ratiosAtEqualLoss } from "./fit.ts";
import type { Point, PowerLaw } from "./fit.ts";
import type { SweepAxis, SweepPoint, SweepRatio, SweepReport } from "./schema.ts";

const AXES: readonly SweepAxis[] = ["parameters", "flops"];

/** A floor is fitted only where this many sizes hold it down: the law has three parameters. */
const SIZES_FOR_FLOOR = 5;

/**
 * Fits what can be fitted (two sizes or more; with a floor from five) and compares every other architecture with the
 * first one that the points name, at every loss that both reach.
 */
export function summariseSweep(points: readonly SweepPoint[], rule?: string): SweepReport {
  const architectures = [...new Set(points.map(({ architecture }) => architecture))];
  const series = (architecture: string, against: SweepAxis): Point[] =>
    points
      .filter((point) => point.architecture === architecture)
      .map((point) => ({ x: point[against], y: point.lossNats }));
  const fits = AXES.flatMap((against) =>
    architectures.flatMap((architecture) => {
      const law = fit(series(architecture, against));
      return law === undefined ? [] : [{ architecture, against, ...law }];
    }),
  );
  const ratios = AXES.flatMap((against): SweepRatio[] =>
    architectures.slice(1).flatMap((of) => {
      const to = architectures[0];
      return ratiosAtEqualLoss(series(of, against), series(to, against)).map(({ y, ratio }): SweepRatio => ({
        of,
        to,
        against,
        lossNats: y,
        ratio,
      }));
    }),
  );
  return { ...(rule === undefined ? {} : { rule }), points, fits, ratios };
}

function fit(points: readonly Point[]): PowerLaw | undefined {
  const sizes = new Set(points.map(({ x }) => x)).size;
  if (sizes < 2) return undefined;
  const law = fitPowerLaw(points, sizes >= SIZES_FOR_FLOOR ? "free" : "none");
  return law.exponent > 0 ? law : undefined;
}
