// The Mamba-1 language model: embedding, blocks, final norm, head.
// Source: state-spaces/mamba, models/mixer_seq_simple.py.
import { Embedding } from "../../nn/embedding.ts";
import type { ForwardOptions } from "../../nn/language-model.ts";
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RmsNorm } from "../../nn/rms-norm.ts";
import type { SavedArrays } from "../../nn/saved-arrays.ts";
import { isStepFused, stepHead } from "../../ops/mamba-step/index.ts";
import { checkpoint } from "../../tensor/checkpoint.ts";
import { currentTape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LayersResult, StateBytes } from "../residual-model.ts";
import { ResidualModel, tapeOrScope } from "../residual-model.ts";
import { MambaBlock } from "./block.ts";
import type { MambaConfig } from "./config.ts";
import type { LayerState } from "./state.ts";
import { MambaState, stateBytes } from "./state.ts";

/** All but the head, under the name that checkpoints give it. */
class Backbone extends Module {
  readonly embeddings: Embedding;
  readonly layers: readonly MambaBlock[];
  readonly normF: RmsNorm;

  constructor(config: MambaConfig) {
    super();
    this.embeddings = new Embedding(config.vocabSize, config.dModel);
    this.layers = Array.from({ length: config.nLayer }, () => new MambaBlock(config));
    this.normF = new RmsNorm(config.dModel, { eps: config.normEps });
  }
}

/** Mamba-1 for language (Gu & Dao 2023): `forward`, `step` and `initialState`; parameters under the names of checkpoints. */
export class MambaModel extends ResidualModel<MambaState> {
  readonly config: MambaConfig;
  readonly backbone: Backbone;
  readonly lmHead: Linear | undefined;

  /** A model without weights: initialise it (initializeMamba) or load a checkpoint. */
  constructor(config: MambaConfig) {
    super();
    this.config = config;
    this.backbone = new Backbone(config);
    this.lmHead = config.tieEmbeddings ? undefined : new Linear(config.dModel, config.vocabSize);
  }

  protected get embedding(): Embedding {
    return this.backbone.embeddings;
  }

  protected get lastNorm(): RmsNorm {
    return this.backbone.normF;
  }

  get stateBytes(): StateBytes {
    return { constant: stateBytes(this.config), perToken: 0 };
  }

  /** The state before the first token, for `batch` sequences. */
  initialState(batch = 1): MambaState {
    return MambaState.initial(this.config, this.backend, batch);
  }

  /** A state from saved arrays; see {@link LanguageModel.stateFrom}. */
  stateFrom(saved: SavedArrays, where: string): Promise<MambaState> {
    return MambaState.fromArrays(this.config, this.backend, saved, where);
  }

  /** States side by side as one batch; the given ones stay. */
  stackStates(states: readonly MambaState[]): MambaState {
    return MambaState.stack(states);
  }

  /** Logits from the output of the last block. */
  override head(hidden: Tensor): Tensor {
    const { tensor: weight } = this.headWeight;
    const { normF } = this.backbone;
    if (!currentTape() && isStepFused(hidden, [weight]))
      return stepHead({ hidden, norm: normF.weight.tensor, weight }, { eps: normF.eps }).y;
    return super.head(hidden);
  }

  override dispose(): void {
    super.dispose();
    for (const layer of this.backbone.layers) layer.mixer.dispose();
  }

  protected runLayers(
    embedded: Tensor,
    state: MambaState,
    { documentStarts, inPlace = false, checkpointBlocks = false }: ForwardOptions,
  ): LayersResult<MambaState> {
    const context = { documentStarts, inPlace, activations: this.activations };
    let hidden = embedded;
    const layers: LayerState[] = [];
    for (const [i, layer] of this.backbone.layers.entries()) {
      const before = hidden;
      const { conv, ssm } = state.layers[i];
      const run = (): { y: Tensor; state: LayerState } => layer.forward(before, state.layers[i], context);
      const result = checkpointBlocks ? checkpoint([before, conv, ssm], run) : tapeOrScope(run);
      // Else one a layer would lie there until the end.
      if (!currentTape()) before.dispose();
      hidden = result.y;
      layers.push(result.state);
    }
    return { hidden, state: inPlace ? state : new MambaState(layers) };
  }
}
