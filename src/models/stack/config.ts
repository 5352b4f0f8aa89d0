// The configuration of a stack: residual layers, each of one or more mixers side by side.
import { ConfigError } from "../../core/errors.ts";
import type { S4dKind } from "../../ops/s4d-kernel/init.ts";
import type { ResidualConfig } from "../residual-model.ts";

/** Which of the scan's step size and matrices follow from the input; the others are parameters (the paper's table 7). */
export interface Selection {
  readonly dt: boolean;
  readonly B: boolean;
  readonly C: boolean;
}

/** A state-space model over `[batch, length, dInner]`. */
export type SsmConfig =
  | { readonly kind: "s6"; readonly dState: number; readonly dtRank: number; readonly selects: Selection }
  /** dState counts the states of a channel as real numbers: dState / 2 complex pairs. */
  | { readonly kind: "s4d"; readonly dState: number; readonly init: S4dKind };

/** What a residual branch does to a sequence. */
export type MixerConfig =
  /** Causal self-attention with rotary positions; nKvHeads < nHeads: grouped (Ainslie et al. 2023). */
  | {
      readonly kind: "attention";
      readonly nHeads: number;
      readonly nKvHeads: number;
      readonly headDim: number;
      /** Width of a head that is rotated; 0: no positions. */
      readonly rotaryDim: number;
      readonly ropeBase: number;
      readonly useBias: boolean;
    }
  /** swiglu: down(silu(gate x) · up x) (Shazeer 2020); gelu: down(gelu(up x)). */
  | {
      readonly kind: "mlp";
      readonly dInner: number;
      readonly activation: "swiglu" | "gelu" | "gelu-tanh";
      readonly useBias: boolean;
    }
  /** topK of nExperts SwiGLU experts; balance: weight of the load-balancing loss (Fedus et al. 2021). */
  | {
      readonly kind: "moe";
      readonly dInner: number;
      readonly nExperts: number;
      readonly topK: number;
      readonly balance: number;
    }
  /** The Mamba block around any ssm: in_proj, convolution, ssm, gate, out_proj (Gu & Dao 2023, figure 3). */
  | { readonly kind: "mamba"; readonly dInner: number; readonly dConv: number; readonly ssm: SsmConfig }
  /** q · ssm(shift(k) · v), the shift a causal convolution of dConv taps (Fu et al. 2022). */
  | { readonly kind: "h3"; readonly dInner: number; readonly dConv: number; readonly ssm: SsmConfig }
  /** out(gelu(ssm(x))), out a gated projection (Gu et al. 2022). */
  | { readonly kind: "s4d"; readonly ssm: SsmConfig }
  | { readonly kind: "lstm"; readonly dHidden: number }
  | { readonly kind: "gru"; readonly dHidden: number };

/** Sizes of a stack. */
export interface StackConfig extends ResidualConfig {
  /** What it is called, among the names of models/architectures.ts or of a checkpoint's family. */
  readonly architecture: string;
  readonly dModel: number;
  /** Layer by layer; the branches of one layer see the same input, and the layer adds all of them to it. */
  readonly layers: readonly (readonly MixerConfig[])[];
  readonly norm: "rms" | "layer";
  readonly normEps: number;
  readonly tieEmbeddings: boolean;
}

const MAX_SIZE = 2 ** 31 - 1;

/** Checks every field. Throws ConfigError with the field, its rule and what came. */
export function checkStackConfig(config: StackConfig, where = "stack"): StackConfig {
  const check = (field: string, value: unknown, least = 1, most = MAX_SIZE): void => {
    if (!(typeof value === "number" && Number.isInteger(value) && value >= least && value <= most))
      throw new ConfigError(
        `${where}: ${field} must be a whole number from ${least} to ${most}, got ${JSON.stringify(value)}.`,
      );
  };
  check("dModel", config.dModel);
  check("vocabSize", config.vocabSize);
  if (!(Array.isArray(config.layers) && config.layers.length > 0 && config.layers.every(Array.isArray)))
    throw new ConfigError(`${where}: layers must be a list of lists of mixers, at least one.`);
  if (config.norm !== "rms" && config.norm !== "layer")
    throw new ConfigError(`${where}: norm must be "rms" or "layer", got ${JSON.stringify(config.norm)}.`);
  if (!(config.normEps > 0 && config.normEps < 1))
    throw new ConfigError(`${where}: normEps must lie between 0 and 1, got ${config.normEps}.`);
  for (const [i, branches] of config.layers.entries())
    for (const [j, mixer] of branches.entries())
      checkMixer(mixer, (field, value, least, most) => check(`layers[${i}][${j}].${field}`, value, least, most), {
        fail: (rule) => {
          throw new ConfigError(`${where}: layers[${i}][${j}] (${mixer.kind}): ${rule}`);
        },
      });
  return config;
}

type Check = (field: string, value: unknown, least?: number, most?: number) => void;

function checkMixer(mixer: MixerConfig, check: Check, { fail }: { fail: (rule: string) => never }): void {
  if (mixer.kind === "attention") {
    for (const field of ["nHeads", "nKvHeads", "headDim"] as const) check(field, mixer[field]);
    check("rotaryDim", mixer.rotaryDim, 0, mixer.headDim);
    if (mixer.nHeads % mixer.nKvHeads !== 0)
      fail(`nHeads must be a multiple of nKvHeads, got ${mixer.nHeads} and ${mixer.nKvHeads}.`);
    if (mixer.rotaryDim % 2 !== 0) fail(`rotaryDim must be even, got ${mixer.rotaryDim}.`);
  } else if (mixer.kind === "mlp") check("dInner", mixer.dInner);
  else if (mixer.kind === "moe") {
    check("dInner", mixer.dInner);
    check("nExperts", mixer.nExperts);
    check("topK", mixer.topK, 1, mixer.nExperts);
  } else if (mixer.kind === "lstm" || mixer.kind === "gru") check("dHidden", mixer.dHidden);
  else {
    if (mixer.kind !== "s4d") {
      check("dInner", mixer.dInner);
      check("dConv", mixer.dConv, 2, 4);
    }
    check("ssm.dState", mixer.ssm.dState, 1, 256);
    if (mixer.ssm.kind === "s6") check("ssm.dtRank", mixer.ssm.dtRank);
    else if (mixer.ssm.dState % 2 !== 0) fail(`ssm.dState must be even (complex pairs), got ${mixer.ssm.dState}.`);
  }
}
