// Moe: a mixture of SwiGLU experts, of which each token asks topK.
// Source: Shazeer et al. 2017; Fedus et al. 2021 (load balancing); Pióro et al. 2024 (MoE-Mamba).
import { Linear } from "../../../nn/linear.ts";
import { expertMlp } from "../../../ops/expert-mlp/index.ts";
import { multiply } from "../../../ops/multiply/index.ts";
import { routeExperts } from "../../../ops/route-experts/index.ts";
import { Parameter } from "../../../tensor/parameter.ts";
import { keep } from "../../../tensor/scope.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import { tensorFrom } from "../../../tensor/tensor.ts";
import type { MixerConfig } from "../config.ts";
import type { MixerContext, MixerResult, MixerState } from "../mixer.ts";
import { Mixer } from "../mixer.ts";

type Config = Extract<MixerConfig, { kind: "moe" }>;

/** y = sum over the chosen experts e of gate_e · down_e(up_e x · silu(gate_e x)). */
export class Moe extends Mixer {
  readonly router: Linear;
  /** `[nExperts, 2 dInner, dModel]`: up, then gate. */
  readonly upGate: Parameter;
  /** `[nExperts, dModel, dInner]`. */
  readonly down: Parameter;
  readonly config: Config;
  /** The balance's weight on the device. */
  #weight: Tensor | undefined;

  constructor(dModel: number, config: Config) {
    super();
    const { nExperts, dInner } = config;
    this.config = config;
    this.router = new Linear(dModel, nExperts);
    this.upGate = new Parameter([nExperts, 2 * dInner, dModel]);
    this.down = new Parameter([nExperts, dModel, dInner]);
  }

  forward(x: Tensor, _state: MixerState, { inPlace }: MixerContext): MixerResult {
    const logits = this.router.forward(x, "f32");
    const { gates, choices, balance } = routeExperts({ logits }, { topK: this.config.topK });
    const { y } = expertMlp({ x, gates, choices, upGate: this.upGate.tensor, down: this.down.tensor }, {});
    if (inPlace) return { y, state: {} };
    return { y, state: {}, auxiliary: multiply({ a: balance, b: this.#balanceWeight(x) }, {}).y };
  }

  override releaseDerived(): void {
    this.#weight?.dispose();
    this.#weight = undefined;
  }

  #balanceWeight({ backend }: Tensor): Tensor {
    const make = (): Tensor => tensorFrom(backend, [this.config.balance], []);
    if (backend.isCompilingAhead) return make();
    this.#weight ??= keep(make());
    return this.#weight;
  }
}
