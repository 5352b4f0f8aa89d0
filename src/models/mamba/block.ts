// The Mamba-1 block: projections, causal convolution, selective scan and gate, around a residual connection.
// Source: Gu & Dao 2023, figure 3 (state-spaces/mamba, modules/mamba_simple.py).
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RmsNorm } from "../../nn/rms-norm.ts";
import { add } from "../../ops/add/index.ts";
import { causalConv1d } from "../../ops/causal-conv1d/index.ts";
import { isStepFused, isStepTiled, mambaStep } from "../../ops/mamba-step/index.ts";
import { negativeExp, selectiveScan } from "../../ops/selective-scan/index.ts";
import { currentTape } from "../../tensor/tape.ts";
import { Parameter } from "../../tensor/parameter.ts";
import { keep } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { MambaConfig } from "./config.ts";
import type { LayerState } from "./state.ts";

/** Where a sequence stands, beside its tokens. */
export interface BlockContext {
  /** i32 `[batch, length]`, 1 where the state is forgotten before this token, because a new document begins. */
  readonly documentStarts?: Tensor | undefined;
  /** Write the final states over the initial ones (decoding, no tape). */
  readonly inPlace?: boolean;
  /** Element type of the activations inside the block; the residual stream is f32. */
  readonly activations: "f32" | "f16";
}

/** The causal depthwise convolution's weights, under PyTorch's names and shapes. */
class ConvWeights extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor({ dInner, dConv, useConvBias }: MambaConfig) {
    super();
    this.weight = new Parameter([dInner, dConv]);
    this.bias = useConvBias ? new Parameter([dInner], { decays: false }) : undefined;
  }
}

/** hidden `[batch, length, dModel]` -> `[batch, length, dModel]`, and the state after the last token. */
export class MambaMixer extends Module {
  readonly A_log: Parameter;
  readonly D: Parameter;
  readonly inProj: Linear;
  readonly conv1d: ConvWeights;
  readonly xProj: Linear;
  readonly dtProj: Linear;
  readonly outProj: Linear;
  readonly config: MambaConfig;
  #A: { value: Tensor; version: number } | undefined;

  constructor(config: MambaConfig) {
    super();
    const { dModel, dInner, dState, dtRank, useBias } = config;
    this.config = config;
    this.A_log = new Parameter([dInner, dState], { decays: false });
    this.D = new Parameter([dInner], { decays: false });
    this.inProj = new Linear(dModel, 2 * dInner, { bias: useBias });
    this.conv1d = new ConvWeights(config);
    this.xProj = new Linear(dInner, dtRank + 2 * dState);
    this.dtProj = new Linear(dtRank, dInner, { bias: true });
    this.outProj = new Linear(dInner, dModel, { bias: useBias });
  }

  forward(
    hidden: Tensor,
    state: LayerState,
    { documentStarts, inPlace = false }: Omit<BlockContext, "activations">,
  ): { y: Tensor; state: LayerState } {
    const { dInner, dState, dtRank } = this.config;
    const xz = this.inProj.forward(hidden);
    const z = xz.columnsOf(dInner, 2 * dInner);
    const conv = causalConv1d(
      {
        x: xz.columnsOf(0, dInner),
        weight: this.conv1d.weight.tensor,
        bias: this.conv1d.bias?.tensor,
        initialState: state.conv,
        documentStarts,
      },
      { silu: true },
      inPlace ? { finalState: state.conv } : undefined,
    );
    const x = conv.y;
    const dtBC = this.xProj.forward(x);
    const scan = selectiveScan(
      {
        x,
        dtRaw: this.dtProj.forwardWithoutBias(dtBC.columnsOf(0, dtRank)),
        A: this.A(),
        B: dtBC.columnsOf(dtRank, dtRank + dState),
        C: dtBC.columnsOf(dtRank + dState, dtRank + 2 * dState),
        D: this.D.tensor,
        dtBias: this.dtProj.bias!.tensor,
        z,
        initialState: state.ssm,
        documentStarts,
      },
      { softplus: true },
      inPlace ? { finalState: state.ssm } : undefined,
    );
    return { y: this.outProj.forward(scan.y), state: { conv: conv.finalState, ssm: scan.finalState } };
  }

  /** The weights of the products of one token whose inputs are many. */
  get products(): readonly Tensor[] {
    return [this.inProj, this.xProj, this.outProj].map(({ weight }) => weight.tensor);
  }

  /** A = -exp(A_log). Outside of training it is computed once and kept. */
  A(): Tensor {
    if (currentTape() || this.A_log.tensor.backend.isCompilingAhead) return negativeExp({ x: this.A_log.tensor }, {}).y;
    if (this.#A?.version !== this.A_log.version) {
      this.#A?.value.dispose();
      this.#A = { value: keep(negativeExp({ x: this.A_log.tensor }, {}).y), version: this.A_log.version };
    }
    return this.#A.value;
  }

  override dispose(): void {
    super.dispose();
    this.#A?.value.dispose();
    this.#A = undefined;
  }
}

/** hidden + mixer(norm(hidden)): the pre-norm residual block. */
export class MambaBlock extends Module {
  readonly norm: RmsNorm;
  readonly mixer: MambaMixer;

  constructor(config: MambaConfig) {
    super();
    this.norm = new RmsNorm(config.dModel, { eps: config.normEps });
    this.mixer = new MambaMixer(config);
  }

  forward(hidden: Tensor, state: LayerState, context: BlockContext): { y: Tensor; state: LayerState } {
    const { inPlace, documentStarts } = context;
    const isStep = isStepTiled(hidden) || isStepFused(hidden, this.mixer.products);
    if (isStep && inPlace && !documentStarts && !currentTape())
      return { y: this.#step(hidden, state, context.activations), state };
    const mixed = this.mixer.forward(this.norm.forward(hidden, context.activations), state, context);
    return { y: add({ a: hidden, b: mixed.y }, {}).y, state: mixed.state };
  }

  /** {@link forward} of one token a sequence by fused kernels. The state changes in place. */
  #step(hidden: Tensor, { conv, ssm }: LayerState, activations: "f32" | "f16"): Tensor {
    const { inProj, conv1d, xProj, dtProj, A_log, D, outProj } = this.mixer;
    return mambaStep(
      {
        hidden,
        norm: this.norm.weight.tensor,
        inProj: inProj.weight.tensor,
        inProjBias: inProj.bias?.tensor,
        conv: conv1d.weight.tensor,
        convBias: conv1d.bias?.tensor,
        xProj: xProj.weight.tensor,
        dtProj: dtProj.weight.tensor,
        dtBias: dtProj.bias!.tensor,
        A_log: A_log.tensor,
        D: D.tensor,
        outProj: outProj.weight.tensor,
        outProjBias: outProj.bias?.tensor,
        convState: conv,
        ssmState: ssm,
      },
      { eps: this.norm.eps, activations },
    ).y;
  }
}
