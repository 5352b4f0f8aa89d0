// Ssm: the state-space models that a block can hold: S6, which selects, and S4D, which is time-invariant.
// Source: Gu & Dao 2023, algorithm 2 and table 7; Gu et al. 2022 (S4D).
import type { Shape } from "../../../core/shape.ts";
import { Linear } from "../../../nn/linear.ts";
import { Module } from "../../../nn/module.ts";
import { expandRows } from "../../../ops/expand-rows/index.ts";
import { fftConvolution } from "../../../ops/fft-convolution/index.ts";
import { s4dKernel } from "../../../ops/s4d-kernel/index.ts";
import { initS4d } from "../../../ops/s4d-kernel/init.ts";
import { s4dScan } from "../../../ops/s4d-scan/index.ts";
import { negativeExp, selectiveScan } from "../../../ops/selective-scan/index.ts";
import { siluGate } from "../../../ops/silu-gate/index.ts";
import { Parameter } from "../../../tensor/parameter.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import { inverseSoftplus, randomStep } from "../../mamba/init.ts";
import type { SsmConfig } from "../config.ts";
import type { ElementRule, InitContext, MixerContext } from "../mixer.ts";
import { defaultRule, uniform } from "../mixer.ts";

/** What an ssm gives. */
export interface SsmResult {
  readonly y: Tensor;
  /** After the last token; what it was before where none is wanted. */
  readonly state: Tensor;
}

/** x `[batch, length, dInner]` -> the same shape. */
export abstract class Ssm extends Module {
  /** @param z a gate that y is multiplied by, through silu */
  abstract forward(x: Tensor, state: Tensor, context: MixerContext, z?: Tensor): SsmResult;
  abstract stateShape(batch: number): Shape;
  abstract elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule;
}

export function createSsm(dInner: number, config: SsmConfig): Ssm {
  return config.kind === "s6" ? new S6(dInner, config) : new S4d(dInner, config);
}

/** The selective scan, its step size and matrices from the input, or (Selection) the same for all tokens. */
export class S6 extends Ssm {
  readonly A_log: Parameter;
  readonly D: Parameter;
  /** dt (rank), B, C of those that follow from the input. */
  readonly xProj: Linear | undefined;
  readonly dtProj: Linear | undefined;
  /** softplus⁻¹ of a step size for all tokens. */
  readonly dtBias: Parameter | undefined;
  /** B and C for all tokens. */
  readonly B: Parameter | undefined;
  readonly C: Parameter | undefined;
  readonly config: Extract<SsmConfig, { kind: "s6" }>;
  readonly #dInner: number;

  constructor(dInner: number, config: Extract<SsmConfig, { kind: "s6" }>) {
    super();
    const { dState, dtRank, selects } = config;
    this.config = config;
    this.#dInner = dInner;
    const fixed = (isSelected: boolean): Parameter | undefined =>
      isSelected ? undefined : new Parameter([dState], { decays: false });
    const width = (selects.dt ? dtRank : 0) + (selects.B ? dState : 0) + (selects.C ? dState : 0);
    this.A_log = new Parameter([dInner, dState], { decays: false });
    this.D = new Parameter([dInner], { decays: false });
    this.xProj = width > 0 ? new Linear(dInner, width) : undefined;
    this.dtProj = selects.dt ? new Linear(dtRank, dInner, { bias: true }) : undefined;
    this.dtBias = selects.dt ? undefined : new Parameter([dInner], { decays: false });
    this.B = fixed(selects.B);
    this.C = fixed(selects.C);
  }

  stateShape(batch: number): Shape {
    return [batch, this.#dInner, this.config.dState];
  }

  forward(x: Tensor, state: Tensor, { documentStarts, inPlace }: MixerContext, z?: Tensor): SsmResult {
    const { dtRank, dState } = this.config;
    const [batch, length] = x.shape;
    const projected = this.xProj?.forward(x);
    let at = 0;
    const next = (columns: number): Tensor => projected!.columnsOf(at, (at += columns));
    const same = (row: Tensor): Tensor => expandRows({ row }, { shape: [batch, length], dtype: x.dtype }).y;
    const dtRaw = this.dtProj ? this.dtProj.forwardWithoutBias(next(dtRank)) : same(this.dtBias!.tensor);
    const B = this.B ? same(this.B.tensor) : next(dState);
    const C = this.C ? same(this.C.tensor) : next(dState);
    const { y, finalState } = selectiveScan(
      {
        x,
        dtRaw,
        A: negativeExp({ x: this.A_log.tensor }, {}).y,
        B,
        C,
        D: this.D.tensor,
        dtBias: this.dtProj?.bias!.tensor,
        z,
        initialState: state,
        documentStarts,
      },
      { softplus: true },
      inPlace ? { finalState: state } : undefined,
    );
    return { y, state: finalState };
  }

  /** The official rules of Mamba; B = 1 and C normal where they are parameters. */
  elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    const { random } = context;
    const { dState, dtRank } = this.config;
    if (name === "A_log") return (index) => Math.log(1 + (index % dState));
    if (name === "D" || name === "B") return () => 1;
    if (name === "C") return () => random.normal();
    if (name === "dt_bias" || name === "dt_proj.bias") return () => inverseSoftplus(randomStep(random));
    if (name === "dt_proj.weight") return uniform(random, dtRank ** -0.5);
    return defaultRule(name, parameter, context);
  }
}

/** The diagonal, complex, time-invariant model: a convolution by FFT while training, a recurrence otherwise. */
export class S4d extends Ssm {
  readonly logDt: Parameter;
  readonly A_log_real: Parameter;
  readonly A_imag: Parameter;
  readonly C: Parameter;
  readonly D: Parameter;
  readonly config: Extract<SsmConfig, { kind: "s4d" }>;
  readonly #dInner: number;

  constructor(dInner: number, config: Extract<SsmConfig, { kind: "s4d" }>) {
    super();
    const pairs = config.dState / 2;
    this.config = config;
    this.#dInner = dInner;
    this.logDt = new Parameter([dInner], { decays: false });
    this.A_log_real = new Parameter([dInner, pairs], { decays: false });
    this.A_imag = new Parameter([dInner, pairs], { decays: false });
    this.C = new Parameter([dInner, 2 * pairs], { decays: false });
    this.D = new Parameter([dInner], { decays: false });
  }

  stateShape(batch: number): Shape {
    return [batch, this.#dInner, this.config.dState];
  }

  forward(x: Tensor, state: Tensor, context: MixerContext, z?: Tensor): SsmResult {
    const result = this.#mayConvolve(context) ? this.#convolve(x, state) : this.#scan(x, state, context);
    return z ? { ...result, y: siluGate({ x: result.y, z }, {}).y } : result;
  }

  elementRule(name: string, _parameter: Parameter, { random }: InitContext): ElementRule {
    if (name === "D") return () => 1;
    const { dState, init: kind } = this.config;
    const values = initS4d({ channels: this.#dInner, pairs: dState / 2, kind }, random);
    const { [name === "log_dt" ? "logDt" : (name as keyof typeof values)]: elements } = values;
    return (index) => elements[index];
  }

  /** A convolution begins from zeros, leaves no state, and knows no documents. */
  #mayConvolve({ inPlace, isFresh, finalState, documentStarts }: MixerContext): boolean {
    return !inPlace && isFresh && !finalState && !documentStarts;
  }

  get #parameters(): { logDt: Tensor; A_log_real: Tensor; A_imag: Tensor; C: Tensor } {
    return {
      logDt: this.logDt.tensor,
      A_log_real: this.A_log_real.tensor,
      A_imag: this.A_imag.tensor,
      C: this.C.tensor,
    };
  }

  #convolve(x: Tensor, state: Tensor): SsmResult {
    const { kernel } = s4dKernel(this.#parameters, { length: x.shape[1] });
    return { y: fftConvolution({ x, kernel, D: this.D.tensor }, {}).y, state };
  }

  #scan(x: Tensor, state: Tensor, { documentStarts, inPlace }: MixerContext): SsmResult {
    const { y, finalState } = s4dScan(
      { x, ...this.#parameters, D: this.D.tensor, initialState: state, documentStarts },
      {},
      inPlace ? { finalState: state } : undefined,
    );
    return { y, state: finalState };
  }
}
