// The parts of a comparison: a model's learning rate, its training, and each kind of measurement. What is done is never
// done again.
import type { ModelReport, SpeedReport } from "../report/schema.ts";
import { bestTrial } from "../report/tuning.ts";
import type { Measurement } from "./options.ts";
import { SPEED } from "./options.ts";
import type { PlannedModel, Resolved } from "./plan.ts";

export type PartKind = Measurement | "tuning";

export interface Part {
  /** `mamba/training`. */
  readonly id: string;
  readonly kind: PartKind;
  readonly model: PlannedModel;
  /** Of a sweep: its numbers become a point, not a row. */
  readonly isSweep: boolean;
}

/** What a part found, as it stands in the report; or why it found nothing. */
export type PartResult = Pick<ModelReport, "tuning" | "training" | "quality" | "extrapolation" | "speed"> & {
  readonly failed?: string;
};

/** All parts, in their order: model by model, so that each is loaded once. */
export function partsOf(
  models: readonly PlannedModel[],
  sweep: readonly PlannedModel[],
  { measurements }: Resolved,
): Part[] {
  const parts = (model: PlannedModel, measured: readonly Measurement[], isSweep: boolean): Part[] => {
    if (model.skipped !== undefined) return [];
    const isTuned = model.isTuned && measured.includes("training");
    const kinds: PartKind[] = isTuned ? ["tuning", ...measured] : [...measured];
    return kinds.map((kind) => ({ id: `${model.folder}/${kind}`, kind, model, isSweep }));
  };
  return [
    ...models.flatMap((model) => parts(model, measurements, false)),
    ...sweep.flatMap((model) => parts(model, ["training", "quality"], true)),
  ];
}

/** Whether a part cannot be done since its model has no learning rate, or was not trained. */
export function isInVain({ kind, model }: Part, results: Readonly<Record<string, PartResult>>): boolean {
  if (kind === "tuning" || SPEED.includes(kind)) return false;
  const needed: PartKind[] = kind === "training" ? ["tuning"] : ["tuning", "training"];
  return needed.some((one) => results[`${model.folder}/${one}`]?.failed !== undefined);
}

/** The model with the learning rate that its trials found, where there were any. */
export function atChosenRate(model: PlannedModel, results: Readonly<Record<string, PartResult>>): PlannedModel {
  const best = bestTrial(results[`${model.folder}/tuning`]?.tuning ?? []);
  return best ? { ...model, learningRate: best.learningRate } : model;
}

/** Results of one model, put together. */
export function gather(folder: string, results: Readonly<Record<string, PartResult>>): PartResult {
  const own = Object.entries(results).filter(([id]) => id.startsWith(`${folder}/`));
  let all: PartResult = {};
  let speed: SpeedReport = {};
  for (const [, result] of own) {
    all = { ...all, ...result };
    speed = { ...speed, ...result.speed };
  }
  const failures = own.flatMap(([id, { failed }]) =>
    failed === undefined ? [] : [`${id.slice(folder.length + 1)}: ${failed}`],
  );
  const { speed: _, failed: __, ...rest } = all;
  return {
    ...rest,
    ...(Object.keys(speed).length > 0 ? { speed } : {}),
    ...(failures.length > 0 ? { failed: failures.join(" ") } : {}),
  };
}

/** Guesses of the first parts, in seconds: operations of training by device, and the rest as it comes. */
const OPERATIONS = { webgpu: 5e12, wasm: 3e10, reference: 1e8 } as const;
const OTHER_SECONDS = 20;

/** How long parts take: first a guess, then as those that were done. */
export class Forecast {
  readonly #seconds: Record<string, number>;
  readonly #parts: readonly Part[];
  readonly #device: keyof typeof OPERATIONS;
  readonly #pointSeconds: number;
  readonly #tune: Resolved["tune"];

  constructor(
    parts: readonly Part[],
    seconds: Record<string, number>,
    { device, how }: { readonly device: keyof typeof OPERATIONS; readonly how: Resolved },
  ) {
    this.#parts = parts;
    this.#seconds = seconds;
    this.#device = device;
    this.#pointSeconds = how.pointSeconds;
    this.#tune = how.tune;
  }

  /** Seconds until all is done, where `share` of `current` took `elapsed`. */
  secondsLeft(current: Part, share: number, elapsed: number, results: Readonly<Record<string, PartResult>>): number {
    const rest = this.#parts.filter((part) => part !== current && !results[part.id] && !isInVain(part, results));
    const expected = this.#expected(current);
    const own = share > 0.02 ? (elapsed / share) * (1 - share) : Math.max(0, expected - elapsed);
    // What is under way says more of the rest than a guess.
    const pace = share > 0.02 && isLearning(current) ? elapsed / share / this.#work(current) : undefined;
    return own + rest.reduce((sum, part) => sum + this.#expected(part, pace), 0);
  }

  #expected(part: Part, pace?: number): number {
    const done = this.#parts.filter(
      (one) => (one.kind === part.kind || (isLearning(one) && isLearning(part))) && this.#seconds[one.id] !== undefined,
    );
    const alike = done.filter(({ model }) => model.architecture === part.model.architecture);
    const from = alike.length > 0 ? alike : done;
    const rates = from.map((one) => this.#seconds[one.id] / this.#work(one));
    if (rates.length > 0) return (this.#work(part) * rates.reduce((sum, rate) => sum + rate, 0)) / rates.length;
    if (!isLearning(part)) return Math.min(OTHER_SECONDS, this.#pointSeconds);
    return this.#work(part) * (pace ?? 1 / OPERATIONS[this.#device]);
  }

  /** Operations of training, 6 a parameter and token, and of trials; of a measurement 1. */
  #work(part: Part): number {
    if (!isLearning(part)) return 1;
    const { activeParameters, parameters, tokens } = part.model;
    const { share, factors } = this.#tune ?? { share: 1, factors: [1] };
    const trainings = part.kind === "tuning" ? share * factors.length : 1;
    return 6 * (activeParameters ?? parameters) * tokens * trainings;
  }
}

function isLearning({ kind }: Part): boolean {
  return kind === "training" || kind === "tuning";
}
