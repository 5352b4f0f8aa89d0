// From a budget of parameters to a width and a number of layers, for each architecture.
import { ConfigError } from "../core/errors.ts";
import type { ArchitectureOptions } from "../models/architectures.ts";
import { countParameters } from "../models/architectures.ts";

/** All that decides the shape of a model but its vocabulary. */
export type ModelSizes = Omit<ArchitectureOptions, "vocabSize" | "eosTokenId">;

export interface ChosenSizes {
  readonly sizes: ModelSizes;
  readonly parameters: number;
  /** Of a mixture of experts: what one token uses. The budget is held against this. */
  readonly activeParameters?: number;
}

/** How far from the budget a model may be. */
export const TOLERANCE = 0.03;

const LEAST_WIDTH = 32;
const MOST_WIDTH = 8192;
/** Within the tolerance the shape decides: this much of log(layers / usual layers) weighs as log(parameters / budget). */
const SHAPE_WEIGHT = 0.02;
/** Layers may be this many times more or fewer than usual. */
const MOST_STRETCH = 2.1;

/** Layers over those of a Transformer of the same width: a Mamba layer is one block, a Transformer's is two. */
const DEPTH: Readonly<Record<string, number>> = {
  mamba: 2,
  "mamba-none": 2,
  "mamba-dt": 2,
  "mamba-b": 2,
  "mamba-c": 2,
  "mamba-s4d": 2,
  hybrid: 2,
  // Deep recurrent networks train badly, and each of their layers is a walk over the sequence: few and wide.
  lstm: 0.5,
  gru: 0.5,
};

/** What an architecture has beside width and layers that changes its size little by little, and in which steps. */
const FINE: Readonly<Record<string, { readonly option: "dMlp" | "dHidden" | "dtRank"; readonly step: number }>> = {
  transformer: { option: "dMlp", step: 8 },
  s4d: { option: "dMlp", step: 8 },
  h3: { option: "dMlp", step: 8 },
  "h3-s6": { option: "dMlp", step: 8 },
  "mamba-mlp": { option: "dMlp", step: 8 },
  "mamba-moe": { option: "dMlp", step: 8 },
  "transformer-moe": { option: "dMlp", step: 8 },
  lstm: { option: "dHidden", step: 8 },
  gru: { option: "dHidden", step: 8 },
  mamba: { option: "dtRank", step: 1 },
  "mamba-dt": { option: "dtRank", step: 1 },
  hybrid: { option: "dtRank", step: 1 },
};

/** Widths are multiples of 32, of wide models of 64 (their heads' width) and 128; of narrow ones without heads of 16. */
function widthStep(architecture: string, dModel: number): number {
  if (dModel < 128 && !/transformer|hybrid/.test(architecture)) return 16;
  if (dModel < 384) return 32;
  return dModel < 1024 ? 64 : 128;
}

/**
 * Layers of a Transformer of this width, by the sizes of the paper: 4 of 64, 6 of 128, 8 of 256, 12 of 512 (table 12, DNA),
 * 12 of 768, 24 of 1024 (table 12, language).
 */
function usualLayers(architecture: string, dModel: number): number {
  return Math.max(1, 4 * (dModel / 64) ** 0.53 * (DEPTH[architecture] ?? 1));
}

/**
 * The sizes whose number of parameters (embedding included, head tied) is as near to the budget as makes a usual shape:
 * within 3 % where such a shape exists.
 * @throws ConfigError when even the smallest model is larger than the budget, or none comes near it
 */
export function chooseSizes(architecture: string, parameters: number, vocabSize: number): ChosenSizes {
  let best: Candidate | undefined;
  let smallest = Infinity;
  for (let dModel = LEAST_WIDTH; dModel <= MOST_WIDTH; dModel += widthStep(architecture, dModel)) {
    const usual = usualLayers(architecture, dModel);
    const fewest = Math.max(1, Math.round(usual / MOST_STRETCH));
    const least = count(architecture, { dModel, nLayer: fewest }, vocabSize);
    smallest = Math.min(smallest, least);
    if (least > parameters * 1.5) break;
    const most = Math.ceil(usual * MOST_STRETCH);
    if (count(architecture, { dModel, nLayer: most }, vocabSize) < parameters / 1.5) continue;
    for (let nLayer = fewest; nLayer <= most; nLayer++) {
      const found = tune(architecture, { dModel, nLayer }, { parameters, vocabSize, usual });
      if (!best || found.cost < best.cost) best = found;
    }
  }
  if (!best || Math.abs(best.parameters / parameters - 1) > 0.25)
    throw new ConfigError(
      `compare: ${architecture} has no model of ${parameters} parameters with a vocabulary of ${vocabSize}: the nearest has ${best?.parameters ?? smallest}. Give a larger budget.`,
    );
  return sizesOf(architecture, best.sizes, vocabSize);
}

/** The numbers of parameters that sizes come to. Throws ConfigError for sizes that do not fit the architecture. */
export function sizesOf(architecture: string, sizes: ModelSizes, vocabSize: number): ChosenSizes {
  const parameters = countParameters(architecture, { ...sizes, vocabSize });
  if (!isMixture(architecture)) return { sizes, parameters };
  return { sizes, parameters, activeParameters: count(architecture, sizes, vocabSize) };
}

function isMixture(architecture: string): boolean {
  return architecture.endsWith("-moe");
}

interface Candidate {
  readonly sizes: ModelSizes;
  readonly parameters: number;
  readonly cost: number;
}

interface Goal {
  readonly parameters: number;
  readonly vocabSize: number;
  readonly usual: number;
}

/** A width and a depth as they are, or with a finer size moved by half at the most to meet the budget. */
function tune(architecture: string, sizes: ModelSizes, goal: Goal): Candidate {
  const plain = judge(architecture, sizes, goal);
  const fine = FINE[architecture];
  if (!fine || Math.abs(plain.parameters / goal.parameters - 1) < TOLERANCE / 6) return plain;
  const { option, step } = fine;
  const usual = defaultOf(option, sizes.dModel);
  const sized = (value: number): ModelSizes => ({ ...sizes, [option]: value });
  const slope = (count(architecture, sized(usual + step), goal.vocabSize) - plain.parameters) / step;
  const wanted = usual + (goal.parameters - plain.parameters) / slope;
  const value = step * Math.round(Math.min(1.5 * usual, Math.max(0.5 * usual, wanted)) / step);
  if (value < step) return plain;
  const tuned = judge(architecture, sized(value), goal);
  // A usual inner size is worth something, too.
  const cost = tuned.cost + SHAPE_WEIGHT * Math.abs(Math.log(value / usual));
  return cost < plain.cost ? { ...tuned, cost } : plain;
}

function judge(architecture: string, sizes: ModelSizes, { parameters, vocabSize, usual }: Goal): Candidate {
  const counted = count(architecture, sizes, vocabSize);
  const cost = Math.abs(Math.log(counted / parameters)) + SHAPE_WEIGHT * Math.abs(Math.log(sizes.nLayer / usual));
  return { sizes, parameters: counted, cost };
}

function defaultOf(option: "dMlp" | "dHidden" | "dtRank", dModel: number): number {
  if (option === "dMlp") return 32 * Math.ceil((dModel * 8) / 3 / 32);
  return option === "dHidden" ? dModel : Math.ceil(dModel / 16);
}

/** Parameters that one token uses. */
function count(architecture: string, sizes: ModelSizes, vocabSize: number): number {
  if (!isMixture(architecture)) return countParameters(architecture, { ...sizes, vocabSize });
  const { dModel, nLayer, nExperts = 8, topK = 2 } = sizes;
  const asked = countParameters(architecture, { ...sizes, vocabSize, nExperts: topK });
  // The router scores all experts.
  return asked + nLayer * dModel * (nExperts - topK);
}
