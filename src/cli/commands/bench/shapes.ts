// Sizes of the published Mamba-1 models. Source: state-spaces/mamba-130m to mamba-2.8b.
import type { MambaConfig, MambaOptions } from "../../../models/mamba/config.ts";
import { mambaConfig } from "../../../models/mamba/config.ts";

const VOCAB_SIZE = 50280;

export type ShapeName = "tiny" | "130m" | "370m" | "790m" | "1.4b" | "2.8b";

/** Layers, width and vocabulary. */
export const SHAPES: Readonly<Record<ShapeName, MambaOptions>> = {
  tiny: { nLayer: 2, dModel: 64, vocabSize: 256 },
  "130m": { nLayer: 24, dModel: 768, vocabSize: VOCAB_SIZE },
  "370m": { nLayer: 48, dModel: 1024, vocabSize: VOCAB_SIZE },
  "790m": { nLayer: 48, dModel: 1536, vocabSize: VOCAB_SIZE },
  "1.4b": { nLayer: 48, dModel: 2048, vocabSize: VOCAB_SIZE },
  "2.8b": { nLayer: 64, dModel: 2560, vocabSize: VOCAB_SIZE },
};

export function shapeConfig(name: ShapeName): MambaConfig {
  return mambaConfig(SHAPES[name], `bench --shape ${name}`);
}
