// Blocks around a state-space model: Mamba's, H3's and S4's. Each takes any ssm, so that block and ssm can be compared.
// Source: Gu & Dao 2023, figure 3 and table 6; Fu et al. 2022, figure 1 (H3); Gu et al. 2022 (S4).
import type { Shape } from "../../../core/shape.ts";
import { Linear } from "../../../nn/linear.ts";
import { causalConv1d } from "../../../ops/causal-conv1d/index.ts";
import { gelu } from "../../../ops/gelu/index.ts";
import { multiply } from "../../../ops/multiply/index.ts";
import { siluGate } from "../../../ops/silu-gate/index.ts";
import { Parameter } from "../../../tensor/parameter.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import type { MixerConfig } from "../config.ts";
import type { ElementRule, InitContext, MixerContext, MixerResult, MixerState } from "../mixer.ts";
import { defaultRule, Mixer, uniform } from "../mixer.ts";
import type { Ssm } from "./ssm.ts";
import { createSsm } from "./ssm.ts";

type BlockConfig = Extract<MixerConfig, { kind: "mamba" | "h3" }>;

/** A mixer with an ssm, and a causal depthwise convolution before it. */
abstract class SsmBlock extends Mixer {
  readonly inProj: Linear;
  readonly convWeight: Parameter;
  readonly convBias: Parameter;
  readonly ssm: Ssm;
  readonly outProj: Linear;
  readonly config: BlockConfig;

  /** @param parts how many times dInner the first product gives */
  constructor(dModel: number, config: BlockConfig, parts: number) {
    super();
    const { dInner, dConv, ssm } = config;
    this.config = config;
    this.inProj = new Linear(dModel, parts * dInner);
    this.convWeight = new Parameter([dInner, dConv]);
    this.convBias = new Parameter([dInner], { decays: false });
    this.ssm = createSsm(dInner, ssm);
    this.outProj = new Linear(dInner, dModel);
  }

  override stateShapes(batch: number): Readonly<Record<string, Shape>> {
    const { dInner, dConv } = this.config;
    return { conv: [batch, dConv - 1, dInner], ssm: this.ssm.stateShape(batch) };
  }

  override elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    if (name.startsWith("ssm.")) return this.ssm.elementRule(name.slice("ssm.".length), parameter, context);
    if (name.startsWith("conv_")) return uniform(context.random, this.config.dConv ** -0.5);
    return defaultRule(name, parameter, context);
  }

  protected convolve(
    x: Tensor,
    { conv }: MixerState,
    { documentStarts, inPlace }: MixerContext,
    silu: boolean,
  ): { y: Tensor; finalState: Tensor } {
    return causalConv1d(
      { x, weight: this.convWeight.tensor, bias: this.convBias.tensor, initialState: conv, documentStarts },
      { silu },
      inPlace ? { finalState: conv } : undefined,
    );
  }

  /** Columns of the `index`-th part of the first product. */
  protected part(projected: Tensor, index: number): Tensor {
    const { dInner } = this.config;
    return projected.columnsOf(index * dInner, (index + 1) * dInner);
  }
}

/** [x, z] = in_proj;  y = out_proj(ssm(silu(conv(x))) · silu(z)). */
export class GatedBlock extends SsmBlock {
  constructor(dModel: number, config: BlockConfig) {
    super(dModel, config, 2);
  }

  forward(hidden: Tensor, state: MixerState, context: MixerContext): MixerResult {
    const xz = this.inProj.forward(hidden);
    const conv = this.convolve(this.part(xz, 0), state, context, true);
    const ssm = this.ssm.forward(conv.y, state.ssm, context, this.part(xz, 1));
    return { y: this.outProj.forward(ssm.y), state: { conv: conv.finalState, ssm: ssm.state } };
  }
}

/** [q, k, v] = in_proj;  y = out_proj(q · ssm(shift(k) · v)), the shift a convolution. */
export class H3 extends SsmBlock {
  constructor(dModel: number, config: BlockConfig) {
    super(dModel, config, 3);
  }

  forward(hidden: Tensor, state: MixerState, context: MixerContext): MixerResult {
    const qkv = this.inProj.forward(hidden);
    const shift = this.convolve(this.part(qkv, 1), state, context, false);
    const kv = multiply({ a: shift.y, b: this.part(qkv, 2) }, {}).y;
    const ssm = this.ssm.forward(kv, state.ssm, context);
    const y = multiply({ a: ssm.y, b: this.part(qkv, 0) }, {}).y;
    return { y: this.outProj.forward(y), state: { conv: shift.finalState, ssm: ssm.state } };
  }
}

/** y = a · silu(b), [a, b] = out_proj(gelu(ssm(x))): S4's block, its gated projection with silu for a sigmoid. */
export class S4Block extends Mixer {
  readonly ssm: Ssm;
  readonly outProj: Linear;

  constructor(dModel: number, { ssm }: Extract<MixerConfig, { kind: "s4d" }>) {
    super();
    this.ssm = createSsm(dModel, ssm);
    this.outProj = new Linear(dModel, 2 * dModel);
  }

  override stateShapes(batch: number): Readonly<Record<string, Shape>> {
    return { ssm: this.ssm.stateShape(batch) };
  }

  override elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    if (name.startsWith("ssm.")) return this.ssm.elementRule(name.slice("ssm.".length), parameter, context);
    return defaultRule(name, parameter, context);
  }

  forward(x: Tensor, state: MixerState, context: MixerContext): MixerResult {
    const ssm = this.ssm.forward(x, state.ssm, context);
    const ab = this.outProj.forward(gelu({ x: ssm.y }, {}).y);
    const width = ab.columns / 2;
    const y = siluGate({ x: ab.columnsOf(0, width), z: ab.columnsOf(width, 2 * width) }, {}).y;
    return { y, state: { ssm: ssm.state } };
  }
}
