// Mlp: two products with a nonlinearity between, position by position.
// Source: Shazeer 2020, "GLU Variants Improve Transformer"; Radford et al. 2019 (GELU).
import { Linear } from "../../../nn/linear.ts";
import { gelu } from "../../../ops/gelu/index.ts";
import { siluGate } from "../../../ops/silu-gate/index.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import type { MixerConfig } from "../config.ts";
import type { MixerResult } from "../mixer.ts";
import { Mixer } from "../mixer.ts";

type Config = Extract<MixerConfig, { kind: "mlp" }>;

/** swiglu: down(up x · silu(gate x)), up and gate one product in this order; gelu: down(gelu(up x)). */
export class Mlp extends Mixer {
  readonly up: Linear;
  readonly down: Linear;
  readonly config: Config;

  constructor(dModel: number, config: Config) {
    super();
    const { dInner, activation, useBias: bias } = config;
    this.config = config;
    this.up = new Linear(dModel, activation === "swiglu" ? 2 * dInner : dInner, { bias });
    this.down = new Linear(dInner, dModel, { bias });
  }

  forward(x: Tensor): MixerResult {
    return { y: this.down.forward(this.#activate(this.up.forward(x))), state: {} };
  }

  #activate(up: Tensor): Tensor {
    const { dInner, activation } = this.config;
    if (activation === "swiglu")
      return siluGate({ x: up.columnsOf(0, dInner), z: up.columnsOf(dInner, 2 * dInner) }, {}).y;
    return gelu({ x: up }, { approximate: activation === "gelu" ? "none" : "tanh" }).y;
  }
}
