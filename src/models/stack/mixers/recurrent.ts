// Lstm and Gru: gated recurrent networks, each followed by a projection.
// Source: Hochreiter & Schmidhuber 1997; Cho et al. 2014; gates in PyTorch's order.
import type { Shape } from "../../../core/shape.ts";
import { Linear } from "../../../nn/linear.ts";
import { gru } from "../../../ops/gru/index.ts";
import { lstm } from "../../../ops/lstm/index.ts";
import { Parameter } from "../../../tensor/parameter.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import type { MixerConfig } from "../config.ts";
import type { ElementRule, InitContext, MixerContext, MixerResult, MixerState } from "../mixer.ts";
import { defaultRule, Mixer, uniform } from "../mixer.ts";

/** i, f, g, o = W_ih x + b + W_hh h;  c = σ(f) c + σ(i) tanh(g);  h = σ(o) tanh(c);  y = out_proj h. */
export class Lstm extends Mixer {
  readonly inProj: Linear;
  /** W_hh `[4 dHidden, dHidden]`. */
  readonly recurrent: Parameter;
  readonly outProj: Linear;
  readonly config: Extract<MixerConfig, { kind: "lstm" }>;

  constructor(dModel: number, config: Extract<MixerConfig, { kind: "lstm" }>) {
    super();
    const { dHidden } = config;
    this.config = config;
    this.inProj = new Linear(dModel, 4 * dHidden, { bias: true });
    this.recurrent = new Parameter([4 * dHidden, dHidden]);
    this.outProj = new Linear(dHidden, dModel);
  }

  override stateShapes(batch: number): Readonly<Record<string, Shape>> {
    return { c: [batch, this.config.dHidden], h: [batch, this.config.dHidden] };
  }

  forward(x: Tensor, { h, c }: MixerState, { documentStarts, inPlace }: MixerContext): MixerResult {
    const { y, finalH, finalC } = lstm(
      { gates: this.inProj.forward(x), weight: this.recurrent.tensor, initialH: h, initialC: c, documentStarts },
      {},
      inPlace ? { finalH: h, finalC: c } : undefined,
    );
    return { y: this.outProj.forward(y), state: { c: finalC, h: finalH } };
  }

  /** Forget gates begin open: their bias is 1 (Jozefowicz et al. 2015). */
  override elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    const { dHidden } = this.config;
    if (name === "in_proj.bias") return (index) => (Math.floor(index / dHidden) === 1 ? 1 : 0);
    if (name === "recurrent") return uniform(context.random, dHidden ** -0.5);
    return defaultRule(name, parameter, context);
  }
}

/** r, z, n = W_ih x + b;  n = tanh(n + r (W_hn h + b_hn));  h = (1 - z) n + z h;  y = out_proj h. */
export class Gru extends Mixer {
  readonly inProj: Linear;
  /** W_hh `[3 dHidden, dHidden]`. */
  readonly recurrent: Parameter;
  /** b_hh `[3 dHidden]`. */
  readonly recurrentBias: Parameter;
  readonly outProj: Linear;
  readonly config: Extract<MixerConfig, { kind: "gru" }>;

  constructor(dModel: number, config: Extract<MixerConfig, { kind: "gru" }>) {
    super();
    const { dHidden } = config;
    this.config = config;
    this.inProj = new Linear(dModel, 3 * dHidden, { bias: true });
    this.recurrent = new Parameter([3 * dHidden, dHidden]);
    this.recurrentBias = new Parameter([3 * dHidden], { decays: false });
    this.outProj = new Linear(dHidden, dModel);
  }

  override stateShapes(batch: number): Readonly<Record<string, Shape>> {
    return { h: [batch, this.config.dHidden] };
  }

  forward(x: Tensor, { h }: MixerState, { documentStarts, inPlace }: MixerContext): MixerResult {
    const { y, finalH } = gru(
      {
        gates: this.inProj.forward(x),
        weight: this.recurrent.tensor,
        bias: this.recurrentBias.tensor,
        initialH: h,
        documentStarts,
      },
      {},
      inPlace ? { finalH: h } : undefined,
    );
    return { y: this.outProj.forward(y), state: { h: finalH } };
  }

  override elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    return name === "recurrent_bias" ? () => 0 : defaultRule(name, parameter, context);
  }
}
