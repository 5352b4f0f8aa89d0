// How each architecture is trained by default: its learning rate, and why.

/** Of a model of 1 million parameters. */
const BASE_SIZE = 1e6;
/** Rates fall with the size: GPT-3's by its power -0.47 from 125 million on (table 2.1), small models' more slowly. */
const EXPONENT = -0.2;
const MOST_GROWTH = 2;
const LEAST_RATE = 1e-4;

const TRANSFORMER = { rate: 1e-3, reason: "attention diverges or stalls above it at this size" } as const;
const MAMBA = {
  rate: 3e-3,
  reason: "Gu & Dao 2023, E.2.2 and E.3: Mamba takes about three to five times a Transformer's rate",
} as const;

/** The peak of the learning rate at 1 million parameters, with batches of some 10 thousand tokens. */
export const LEARNING_RATES: Readonly<Record<string, { readonly rate: number; readonly reason: string }>> = {
  mamba: MAMBA,
  "mamba-none": MAMBA,
  "mamba-dt": MAMBA,
  "mamba-b": MAMBA,
  "mamba-c": MAMBA,
  "mamba-s4d": MAMBA,
  "mamba-mlp": MAMBA,
  "mamba-moe": MAMBA,
  hybrid: { rate: 2e-3, reason: "between Mamba's and attention's" },
  h3: { rate: 2e-3, reason: "as S4D, whose blocks it holds" },
  "h3-s6": { rate: 2e-3, reason: "as H3" },
  s4d: { rate: 2e-3, reason: "the rates of S4 (Gu et al. 2022: 1e-3 to 4e-3)" },
  transformer: TRANSFORMER,
  "transformer-moe": TRANSFORMER,
  lstm: { rate: 2e-3, reason: "recurrent networks with clipped gradients take it" },
  gru: { rate: 2e-3, reason: "as the LSTM" },
};

/** The default learning rate of an architecture at a size, two digits. */
export function learningRateOf(architecture: string, parameters: number): number {
  const { rate } = LEARNING_RATES[architecture] ?? TRANSFORMER;
  const scaled = rate * Math.min(MOST_GROWTH, (parameters / BASE_SIZE) ** EXPONENT);
  return Number(Math.max(LEAST_RATE, scaled).toPrecision(2));
}
