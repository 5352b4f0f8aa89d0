// The architectures that can be made by name: Mamba, and what it is compared with.
import type { Backend } from "../backends/backend.ts";
import { ConfigError } from "../core/errors.ts";
import type { Random } from "../core/random.ts";
import type { S4dKind } from "../ops/s4d-kernel/init.ts";
import type { AnyConfig, AnyModel } from "./auto.ts";
import { modelOf } from "./auto.ts";
import { defined } from "./config-fields.ts";
import { mambaConfig } from "./mamba/config.ts";
import { initializeMamba } from "./mamba/init.ts";
import { MambaModel } from "./mamba/model.ts";
import type { MixerConfig, Selection, SsmConfig, StackConfig } from "./stack/config.ts";

/** Sizes that a person gives; each architecture takes what it needs. */
export interface ArchitectureOptions {
  readonly dModel: number;
  /** Layers: a Mamba block each; of the others a mixer and, where the architecture has one, an MLP. */
  readonly nLayer: number;
  readonly vocabSize: number;
  /** States a channel of an ssm; default 16, of S4D 64. */
  readonly dState?: number | undefined;
  /** Taps of a Mamba or H3 block's convolution; default 4. */
  readonly dConv?: number | undefined;
  /** Rank of the step size's projection in a Mamba or H3 block; default dModel / 16, rounded up. */
  readonly dtRank?: number | undefined;
  /** dInner of a Mamba or H3 block over dModel; default 2. */
  readonly expand?: number | undefined;
  /** Width of a head; default 64, or 32 below a width of 384, or dModel where that is less. */
  readonly headDim?: number | undefined;
  /** Heads of keys and values; default: as many as of queries. */
  readonly nKvHeads?: number | undefined;
  /** Inner width of an MLP; default 8/3 dModel, rounded up to a multiple of 32. */
  readonly dMlp?: number | undefined;
  /** Hidden width of an LSTM or GRU; default dModel. */
  readonly dHidden?: number | undefined;
  readonly nExperts?: number | undefined;
  readonly topK?: number | undefined;
  /** First values of S4D's A; default s4d-lin. */
  readonly s4dInit?: S4dKind | undefined;
  readonly tieEmbeddings?: boolean | undefined;
  readonly eosTokenId?: number | undefined;
}

/** An architecture by name. */
export interface Architecture {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  readonly config: (options: ArchitectureOptions) => AnyConfig;
}

const ALL: Selection = { dt: true, B: true, C: true };

/** Every architecture, in the order of help texts. */
export const ARCHITECTURES: readonly Architecture[] = [
  {
    name: "mamba",
    description: "Mamba: selective state-space blocks",
    config: ({ dModel, nLayer, vocabSize, dState, dConv, expand, dtRank, tieEmbeddings, eosTokenId }) =>
      mambaConfig({
        dModel,
        nLayer,
        vocabSize,
        ...defined({ dState, dConv, expand, dtRank, tieEmbeddings, eosTokenId }),
      }),
  },
  stack("transformer", "Transformer++: attention with rotary positions, RMSNorm, SwiGLU", (o) => [
    attention(o),
    mlp(o),
  ]),
  stack("lstm", "LSTM layers with residual connections", ({ dHidden, dModel }) => [
    { kind: "lstm", dHidden: dHidden ?? dModel },
  ]),
  stack("gru", "GRU layers with residual connections", ({ dHidden, dModel }) => [
    { kind: "gru", dHidden: dHidden ?? dModel },
  ]),
  stack("s4d", "S4D: time-invariant diagonal state spaces, and MLPs", (o) => [{ kind: "s4d", ssm: s4d(o) }, mlp(o)]),
  stack("h3", "H3 blocks around S4D, and MLPs", (o) => [{ ...block(o, s4d(o)), kind: "h3" }, mlp(o)]),
  stack("h3-s6", "H3 blocks around the selective scan, and MLPs", (o) => [{ ...block(o, s6(o)), kind: "h3" }, mlp(o)]),
  stack("mamba-s4d", "Mamba blocks around S4D, without selection", (o) => [block(o, s4d(o))]),
  stack("mamba-none", "Mamba without selection: dt, B and C are the same for all tokens", (o) => [
    block(o, s6(o, { dt: false, B: false, C: false })),
  ]),
  stack("mamba-dt", "Mamba where only dt is selective", (o) => [block(o, s6(o, { ...ALL, B: false, C: false }))]),
  stack("mamba-b", "Mamba where only B is selective", (o) => [block(o, s6(o, { ...ALL, dt: false, C: false }))]),
  stack("mamba-c", "Mamba where only C is selective", (o) => [block(o, s6(o, { ...ALL, dt: false, B: false }))]),
  stack("mamba-mlp", "Mamba blocks and gated MLPs in turn", (o) => [block(o, s6(o)), mlp(o)]),
  stack("mamba-moe", "MoE-Mamba: Mamba blocks and mixtures of experts in turn", (o) => [block(o, s6(o)), moe(o)]),
  stack("transformer-moe", "attention and mixtures of experts in turn", (o) => [attention(o), moe(o)]),
  {
    name: "hybrid",
    description: "Mamba with an attention layer among every eight",
    config: (o) => stackOf("hybrid", o, (i) => (i % 8 === 4 ? [attention(o)] : [block(o, s6(o))])),
  },
];

/** The architecture of a name. Throws ConfigError that lists them. */
export function findArchitecture(name: string): Architecture {
  const found = ARCHITECTURES.find((architecture) => architecture.name === name);
  if (found) return found;
  throw new ConfigError(
    `There is no architecture ${JSON.stringify(name)}. There are ${ARCHITECTURES.map((each) => each.name).join(", ")}.`,
  );
}

/**
 * A new model, initialised.
 * @throws ConfigError (an unknown name, or sizes that do not fit it)
 */
export function createModel(
  architecture: string,
  options: ArchitectureOptions,
  backend: Backend,
  random: Random,
): AnyModel {
  const model = modelOf(findArchitecture(architecture).config(options));
  if (model instanceof MambaModel) initializeMamba(model, backend, random);
  else model.initialize(backend, random);
  return model;
}

/** Parameters of an architecture of these sizes, without making it. */
export function countParameters(architecture: string, options: ArchitectureOptions): number {
  return modelOf(findArchitecture(architecture).config(options)).parameterCount;
}

function stack(
  name: string,
  description: string,
  layer: (options: ArchitectureOptions) => MixerConfig[],
): Architecture {
  return { name, description, config: (options) => stackOf(name, options, () => layer(options)) };
}

function stackOf(
  architecture: string,
  { dModel, nLayer, vocabSize, tieEmbeddings = true, eosTokenId }: ArchitectureOptions,
  layer: (index: number) => MixerConfig[],
): StackConfig {
  if (!(Number.isInteger(nLayer) && nLayer >= 1))
    throw new ConfigError(`${architecture}: nLayer must be a whole number from 1 on, got ${nLayer}.`);
  const layers = Array.from({ length: nLayer }, (_, i) => layer(i).map((mixer) => [mixer])).flat();
  return { architecture, dModel, vocabSize, layers, norm: "rms", normEps: 1e-5, tieEmbeddings, eosTokenId };
}

function attention({ dModel, headDim, nKvHeads }: ArchitectureOptions): MixerConfig {
  const width = headDim ?? Math.min(dModel, dModel < 384 ? 32 : 64);
  if (dModel % width !== 0)
    throw new ConfigError(`attention: dModel must be a multiple of the head's width ${width}, got ${dModel}.`);
  const nHeads = dModel / width;
  return {
    kind: "attention",
    nHeads,
    nKvHeads: nKvHeads ?? nHeads,
    headDim: width,
    rotaryDim: width - (width % 2),
    ropeBase: 10000,
    useBias: false,
  };
}

function mlp({ dModel, dMlp }: ArchitectureOptions): MixerConfig {
  return { kind: "mlp", dInner: dMlp ?? mlpWidth(dModel), activation: "swiglu", useBias: false };
}

function moe({ dModel, dMlp, nExperts = 8, topK = 2 }: ArchitectureOptions): MixerConfig {
  return { kind: "moe", dInner: dMlp ?? mlpWidth(dModel), nExperts, topK, balance: 0.01 };
}

function mlpWidth(dModel: number): number {
  return 32 * Math.ceil((dModel * 8) / 3 / 32);
}

function block(
  { dModel, expand = 2, dConv = 4 }: ArchitectureOptions,
  ssm: SsmConfig,
): Extract<MixerConfig, { kind: "mamba" | "h3" }> {
  return { kind: "mamba", dInner: expand * dModel, dConv, ssm };
}

function s6(
  { dModel, dState = 16, dtRank = Math.ceil(dModel / 16) }: ArchitectureOptions,
  selects: Selection = ALL,
): SsmConfig {
  return { kind: "s6", dState, dtRank, selects };
}

function s4d({ dState = 64, s4dInit = "s4d-lin" }: ArchitectureOptions): SsmConfig {
  return { kind: "s4d", dState, init: s4dInit };
}
