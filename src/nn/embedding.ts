// Embedding: one row of the weight a token.
import { embedding } from "../ops/embedding/index.ts";
import { Parameter } from "../tensor/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** ids (i32) `[batch, length]` -> `[batch, length, width]`; weight `[vocabSize, width]`. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(vocabSize: number, width: number) {
    super();
    this.weight = new Parameter([vocabSize, width], { isPackable: true });
  }

  /** @param checked whether ids are checked on the host first; false only where they are known to be in range. */
  forward(ids: Tensor, { checked = true }: { checked?: boolean } = {}): Tensor {
    return embedding({ ids, weight: this.weight.tensor }, { checked }).y;
  }
}
