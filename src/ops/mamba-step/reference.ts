// mambaStep and stepHead by the ordinary ops: what the fused kernels must agree with.
import { add } from "../add/index.ts";
import { causalConv1d } from "../causal-conv1d/index.ts";
import { linear } from "../linear/index.ts";
import { rmsNorm } from "../rms-norm/index.ts";
import { negativeExp, selectiveScan } from "../selective-scan/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { HeadInputs, StepInputs, StepOptions, StepOutputs } from "./index.ts";

export function step({ inputs, outputs, options }: ForwardCall<StepInputs, StepOutputs, StepOptions>): void {
  scope(() => {
    const { hidden, convState, ssmState } = inputs;
    const [dInner, dState, dtRank] = [inputs.conv.rows, inputs.A_log.columns, inputs.dtProj.columns];
    const normed = rmsNorm({ x: hidden, weight: inputs.norm }, options).y;
    const xz = linear({ x: normed, weight: inputs.inProj, bias: inputs.inProjBias }, {}).y;
    const x = causalConv1d(
      { x: xz.columnsOf(0, dInner), weight: inputs.conv, bias: inputs.convBias, initialState: convState },
      { silu: true },
      { finalState: convState },
    ).y;
    const dtBC = linear({ x, weight: inputs.xProj }, {}).y;
    const scan = selectiveScan(
      {
        x,
        dtRaw: linear({ x: dtBC.columnsOf(0, dtRank), weight: inputs.dtProj }, {}).y,
        A: negativeExp({ x: inputs.A_log }, {}).y,
        B: dtBC.columnsOf(dtRank, dtRank + dState),
        C: dtBC.columnsOf(dtRank + dState, dtRank + 2 * dState),
        D: inputs.D,
        dtBias: inputs.dtBias,
        z: xz.columnsOf(dInner, 2 * dInner),
        initialState: ssmState,
      },
      { softplus: true },
      { finalState: ssmState },
    );
    const mixed = linear({ x: scan.y, weight: inputs.outProj, bias: inputs.outProjBias }, {}).y;
    add({ a: hidden, b: mixed }, {}, { y: outputs.y });
  });
}

export function head({ inputs, outputs, options }: ForwardCall<HeadInputs, StepOutputs, StepOptions>): void {
  scope(() => {
    const { hidden, norm, weight } = inputs;
    linear({ x: rmsNorm({ x: hidden, weight: norm }, options).y, weight }, {}, { y: outputs.y });
  });
}
