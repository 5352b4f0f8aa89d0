// StackModel: a language model of residual layers of any mixers: the baselines, hybrids and ablations beside Mamba.
import type { Backend } from "../../backends/backend.ts";
import type { Random } from "../../core/random.ts";
import { sizeOf } from "../../core/shape.ts";
import { Embedding } from "../../nn/embedding.ts";
import type { ForwardOptions } from "../../nn/language-model.ts";
import { LayerNorm } from "../../nn/layer-norm.ts";
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RmsNorm } from "../../nn/rms-norm.ts";
import type { SavedArrays } from "../../nn/saved-arrays.ts";
import { add } from "../../ops/add/index.ts";
import { advanceLengths } from "../../ops/advance-lengths/index.ts";
import { checkpoint } from "../../tensor/checkpoint.ts";
import { currentTape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { LayersResult, StateBytes } from "../residual-model.ts";
import { ResidualModel, tapeOrScope } from "../residual-model.ts";
import type { MixerConfig, StackConfig } from "./config.ts";
import { checkStackConfig } from "./config.ts";
import type { ElementRule, Mixer, MixerContext, MixerState } from "./mixer.ts";
import { Attention } from "./mixers/attention.ts";
import { GatedBlock, H3, S4Block } from "./mixers/blocks.ts";
import { Mlp } from "./mixers/mlp.ts";
import { Moe } from "./mixers/moe.ts";
import { Gru, Lstm } from "./mixers/recurrent.ts";
import type { StateLayout } from "./state.ts";
import { spentError, StackState } from "./state.ts";

const EMBEDDING_DEVIATION = 0.02;

/** What makes each kind of mixer. */
const MIXERS: {
  readonly [K in MixerConfig["kind"]]: new (dModel: number, config: Extract<MixerConfig, { kind: K }>) => Mixer;
} = { attention: Attention, mlp: Mlp, moe: Moe, mamba: GatedBlock, h3: H3, s4d: S4Block, lstm: Lstm, gru: Gru };

function createMixer(dModel: number, config: MixerConfig): Mixer {
  return new (MIXERS[config.kind] as new (dModel: number, config: MixerConfig) => Mixer)(dModel, config);
}

function createNorm({ dModel, norm, normEps: eps }: StackConfig): RmsNorm | LayerNorm {
  return norm === "rms" ? new RmsNorm(dModel, { eps }) : new LayerNorm(dModel, { eps });
}

/** mixer(norm(x)): what a layer adds to the residual stream. */
class Branch extends Module {
  readonly norm: RmsNorm | LayerNorm;
  readonly mixer: Mixer;

  constructor(config: StackConfig, mixer: MixerConfig) {
    super();
    this.norm = createNorm(config);
    this.mixer = createMixer(config.dModel, mixer);
  }
}

/** Token embedding, layers `x + Σ mixer(norm(x))`, a last norm and a head. Its parts are named in {@link StackConfig}. */
export class StackModel extends ResidualModel<StackState> {
  readonly config: StackConfig;
  readonly embeddings: Embedding;
  readonly layers: readonly (readonly Branch[])[];
  readonly normF: RmsNorm | LayerNorm;
  readonly lmHead: Linear | undefined;
  readonly #layout: StateLayout;

  /** A model without weights: {@link initialize} it or load a checkpoint. Throws ConfigError. */
  constructor(config: StackConfig) {
    super();
    this.config = checkStackConfig(config);
    this.embeddings = new Embedding(config.vocabSize, config.dModel);
    this.layers = config.layers.map((branches) => branches.map((mixer) => new Branch(config, mixer)));
    this.normF = createNorm(config);
    this.lmHead = config.tieEmbeddings ? undefined : new Linear(config.dModel, config.vocabSize);
    const mixers = this.layers.flatMap((branches, i) =>
      branches.map(({ mixer }, j) => ({
        name: `layers.${i}.${j}`,
        shapes: (batch: number) => mixer.stateShapes(batch),
        caches: mixer.cacheWidths(),
      })),
    );
    this.#layout = { mixers, hasCaches: mixers.some(({ caches }) => Object.keys(caches).length > 0) };
  }

  protected get embedding(): Embedding {
    return this.embeddings;
  }

  protected get lastNorm(): RmsNorm | LayerNorm {
    return this.normF;
  }

  get stateBytes(): StateBytes {
    const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
    const { mixers } = this.#layout;
    return {
      constant: sum(mixers.flatMap(({ shapes }) => Object.values(shapes(1)).map((shape) => 4 * sizeOf(shape)))),
      perToken: sum(mixers.flatMap(({ caches }) => Object.values(caches).map((width) => 4 * width))),
    };
  }

  initialState(batch = 1): StackState {
    return StackState.initial(this.#layout, this.backend, { batch, cacheDType: this.activations });
  }

  stackStates(states: readonly StackState[]): StackState {
    return StackState.stack(states);
  }

  stateFrom(saved: SavedArrays, where: string): Promise<StackState> {
    return StackState.fromArrays(this.#layout, this.backend, saved, where);
  }

  /** Gives every parameter its first value: embedding N(0, 0.02), the rest by the rules of its mixer. */
  initialize(backend: Backend, random: Random): void {
    const branches = this.layers.reduce((sum, layer) => sum + layer.length, 0);
    for (const [name, parameter] of this.namedParameters()) {
      const element = this.#elementRule(name, { random, branches });
      const data = new Float32Array(sizeOf(parameter.shape));
      for (let i = 0; i < data.length; i++) data[i] = element(i);
      parameter.assign(tensorFrom(backend, data, parameter.shape));
    }
  }

  override dispose(): void {
    super.dispose();
    for (const branches of this.layers) for (const { mixer } of branches) mixer.releaseDerived();
  }

  #elementRule(name: string, context: { random: Random; branches: number }): ElementRule {
    const { random } = context;
    if (name === "embeddings.weight") return () => EMBEDDING_DEVIATION * random.normal();
    const [, layer, branch, inside] = /^layers\.(\d+)\.(\d+)\.mixer\.(.*)$/.exec(name) ?? [];
    if (inside !== undefined) {
      const { mixer } = this.layers[Number(layer)][Number(branch)];
      return mixer.elementRule(inside, mixer.namedParameters().get(inside)!, context);
    }
    if (name === "lm_head.weight") return () => EMBEDDING_DEVIATION * random.normal();
    return name.endsWith("bias") ? () => 0 : () => 1;
  }

  protected runLayers(embedded: Tensor, state: StackState, options: ForwardOptions): LayersResult<StackState> {
    if (state.isSpent) throw spentError();
    return currentTape() ? this.#train(embedded, state, options) : this.#infer(embedded, state, options);
  }

  /** Without a tape: everything is written in place, in a copy of the state where it must stay. */
  #infer(
    embedded: Tensor,
    given: StackState,
    { documentStarts, inPlace = false }: ForwardOptions,
  ): LayersResult<StackState> {
    const state = inPlace ? given : given.fork();
    const { isCompilingAhead = false } = this.backend;
    const length = embedded.shape[1];
    state.reserve(length);
    const { isFresh, position, lengths } = state;
    const context = { documentStarts, inPlace: true, isFresh, finalState: true, lengths, position };
    let hidden = embedded;
    let at = 0;
    for (const branches of this.layers) {
      const before = hidden;
      const mixers = state.mixers.slice(at, (at += branches.length));
      hidden = tapeOrScope(() => this.#runLayer(branches, before, mixers, context)).y;
      before.dispose();
    }
    if (lengths) advanceLengths({ lengths }, { by: length });
    if (!isCompilingAhead) state.advance(length);
    return { hidden, state };
  }

  #train(
    embedded: Tensor,
    state: StackState,
    { documentStarts, checkpointBlocks = false, finalState = true }: ForwardOptions,
  ): LayersResult<StackState> {
    const { batch, isFresh, position } = state;
    const firstVisible = documentStarts && this.#layout.hasCaches ? firstVisibleOf(documentStarts) : undefined;
    const context = { documentStarts, firstVisible, inPlace: false, isFresh, finalState, position };
    let hidden = embedded;
    let auxiliary: Tensor | undefined;
    const after: MixerState[] = [];
    let at = 0;
    for (const branches of this.layers) {
      const before = hidden;
      const mixers = state.mixers.slice(at, (at += branches.length));
      const run = (): LayerOutcome => this.#runLayer(branches, before, mixers, context);
      const inputs = [before, ...mixers.flatMap((mixer) => Object.values(mixer))];
      const result = checkpointBlocks ? checkpoint(inputs, run) : run();
      hidden = result.y;
      after.push(...result.mixers);
      for (const each of result.auxiliaries) auxiliary = auxiliary ? add({ a: auxiliary, b: each }, {}).y : each;
    }
    const parts = { batch, mixers: after, lengths: undefined, position: position + embedded.shape[1] };
    const isSpent = !finalState || this.#layout.hasCaches;
    return { hidden, auxiliary, state: new StackState(this.#layout, this.backend, { ...parts, isSpent }) };
  }

  #runLayer(
    branches: readonly Branch[],
    x: Tensor,
    mixers: readonly MixerState[],
    context: MixerContext,
  ): LayerOutcome {
    let y = x;
    const after: MixerState[] = [];
    const auxiliaries: Tensor[] = [];
    for (const [i, { norm, mixer }] of branches.entries()) {
      const result = mixer.forward(norm.forward(x, this.activations), mixers[i], context);
      y = add({ a: y, b: result.y }, {}).y;
      after.push(result.state);
      if (result.auxiliary) auxiliaries.push(result.auxiliary);
    }
    return { y, mixers: after, auxiliaries };
  }
}

/** What a layer leaves. */
interface LayerOutcome {
  readonly y: Tensor;
  readonly mixers: MixerState[];
  readonly auxiliaries: Tensor[];
}

/** Of each token, where its document begins, or 0 where it began before: i32 `[batch, length]`. */
function firstVisibleOf(documentStarts: Tensor): Tensor {
  const { backend, shape } = documentStarts;
  const [batch, length] = shape;
  const starts = documentStarts.peek()!;
  const first = new Int32Array(batch * length);
  for (let row = 0; row < batch; row++)
    for (let t = 1; t < length; t++) {
      const at = row * length + t;
      first[at] = starts[at] ? t : first[at - 1];
    }
  return tensorFrom(backend, first, shape, "i32");
}
