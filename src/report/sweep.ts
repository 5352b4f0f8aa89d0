// From the losses of a sweep over sizes: the fitted laws, and how much one architecture needs for another's loss.
import { fitPowerLaw, ratioByFits, ratioByInterpolation, sharedLoss } from "./fit.ts";
import type { Point, PowerLaw } from "./fit.ts";
import type { SweepAxis, SweepPoint, SweepRatio, SweepReport } from "./schema.ts";

const AXES: readonly SweepAxis[] = ["parameters", "flops"];

/** A floor is fitted only where this many sizes hold it down. */
const SIZES_FOR_FLOOR = 6;

/**
 * Fits what can be fitted (two sizes or more; with a floor from six) and compares every other architecture with the
 * first one that the points name, at the middle of the losses that both have.
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
      const loss = sharedLoss(series(of, against), series(to, against));
      if (loss === undefined) return [];
      const law = (name: string): PowerLaw | undefined =>
        fits.find((fit) => fit.architecture === name && fit.against === against);
      const [one, other] = [law(of), law(to)];
      const fitted = one !== undefined && other !== undefined ? ratioByFits(one, other, loss) : undefined;
      const ratio = fitted ?? ratioByInterpolation(series(of, against), series(to, against), loss);
      const method = fitted === undefined ? "interpolation" : "fits";
      return ratio === undefined ? [] : [{ of, to, against, lossNats: loss, ratio, method }];
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
