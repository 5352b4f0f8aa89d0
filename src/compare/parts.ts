// The parts of a comparison: a model's training, and each kind of measurement. What is done is never done again.
import type { ModelReport, SpeedReport } from "../report/schema.ts";
import type { Measurement } from "./options.ts";
import { SPEED } from "./options.ts";
import type { PlannedModel, Resolved } from "./plan.ts";

export interface Part {
  /** `mamba/training`. */
  readonly id: string;
  readonly kind: Measurement;
  readonly model: PlannedModel;
  /** Of a sweep: its numbers become a point, not a row. */
  readonly isSweep: boolean;
}

/** What a part found, as it stands in the report; or why it found nothing. */
export type PartResult = Pick<ModelReport, "training" | "quality" | "extrapolation" | "speed"> & {
  readonly failed?: string;
};

/** All parts, in their order: model by model, so that each is loaded once. */
export function partsOf(
  models: readonly PlannedModel[],
  sweep: readonly PlannedModel[],
  { measurements }: Resolved,
): Part[] {
  const parts = (model: PlannedModel, kinds: readonly Measurement[], isSweep: boolean): Part[] =>
    model.skipped === undefined ? kinds.map((kind) => ({ id: `${model.folder}/${kind}`, kind, model, isSweep })) : [];
  return [
    ...models.flatMap((model) => parts(model, measurements, false)),
    ...sweep.flatMap((model) => parts(model, ["training", "quality"], true)),
  ];
}

/** Whether a part cannot be done since its model was not trained. */
export function isInVain({ kind, model }: Part, results: Readonly<Record<string, PartResult>>): boolean {
  return !SPEED.includes(kind) && kind !== "training" && results[`${model.folder}/training`]?.failed !== undefined;
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

  constructor(
    parts: readonly Part[],
    seconds: Record<string, number>,
    { device, pointSeconds }: { readonly device: keyof typeof OPERATIONS; readonly pointSeconds: number },
  ) {
    this.#parts = parts;
    this.#seconds = seconds;
    this.#device = device;
    this.#pointSeconds = pointSeconds;
  }

  /** Seconds until all is done, where `share` of `current` took `elapsed`. */
  secondsLeft(current: Part, share: number, elapsed: number, results: Readonly<Record<string, PartResult>>): number {
    const rest = this.#parts.filter((part) => part !== current && !results[part.id] && !isInVain(part, results));
    const expected = this.#expected(current);
    const own = share > 0.02 ? (elapsed / share) * (1 - share) : Math.max(0, expected - elapsed);
    // What is under way says more of the rest than a guess.
    const pace = share > 0.02 && current.kind === "training" ? elapsed / share / work(current) : undefined;
    return own + rest.reduce((sum, part) => sum + this.#expected(part, pace), 0);
  }

  #expected(part: Part, pace?: number): number {
    const done = this.#parts.filter(({ id, kind }) => kind === part.kind && this.#seconds[id] !== undefined);
    const alike = done.filter(({ model }) => model.architecture === part.model.architecture);
    const from = alike.length > 0 ? alike : done;
    const rates = from.map((one) => this.#seconds[one.id] / work(one));
    if (rates.length > 0) return (work(part) * rates.reduce((sum, rate) => sum + rate, 0)) / rates.length;
    if (part.kind !== "training") return Math.min(OTHER_SECONDS, this.#pointSeconds);
    return work(part) * (pace ?? 1 / OPERATIONS[this.#device]);
  }
}

/** Operations of training, 6 a parameter and token; of a measurement 1. */
function work({ kind, model }: Part): number {
  return kind === "training" ? 6 * (model.activeParameters ?? model.parameters) * model.tokens : 1;
}
