// advanceLengths on the reference backend.
import type { ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { AdvanceLengthsInputs, AdvanceLengthsOptions, AdvanceLengthsOutputs } from "./index.ts";

export function forward({
  inputs: { lengths },
  options: { by },
}: ForwardCall<AdvanceLengthsInputs, AdvanceLengthsOutputs, AdvanceLengthsOptions>): void {
  for (let row = 0; row < lengths.rows; row++)
    for (let column = 0; column < lengths.columns; column++)
      hostData(lengths)[lengths.offset + row * lengths.rowStride + column] += by;
}
