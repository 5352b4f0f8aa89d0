// How each architecture is trained by default: its learning rate, and why.
//
// Measured here on short runs, bits per byte of held-out books (bytes, batches of 16 x 64, weights of seed 0):
//   100 thousand parameters, 390 steps    1e-3   2e-3   4e-3   8e-3  16e-3
//     mamba                               3.450  2.931  2.594  2.436  2.426
//     transformer                         3.198  2.964  2.971  2.983  3.389
//     lstm                                2.990  2.777  2.630  2.559  2.518
//     s4d                                 3.377  3.090  2.849  2.671  2.570
//   0.3 million parameters, 732 steps of 8 x 512: transformer 2.39 at 1.4e-3, 2.24 at 4e-3, 2.22 at 8e-3
//   1 million parameters, 293 steps: transformer 3.044 at 1e-3, 3.066 at 2e-3, 3.181 at 4e-3; mamba 2.446 at 3e-3.
// And on the GPU, nats of held-out texts after 3 million bytes in batches of 64 x 512, 1 million parameters
// (docs/results/text-1m):           1.5e-3   3e-3   6e-3  12e-3  24e-3
//     mamba                          1.983  1.731  1.682  1.811
//     transformer                    2.553  2.503  2.729
//     lstm                           2.228  2.081  2.018  1.982  2.089
//     s4d (2e-3, 4e-3, 8e-3)         2.132  2.079  2.121
// Short runs favour high rates; the table below stays a little under those that were best in them.

/** Of a model of 1 million parameters. */
const BASE_SIZE = 1e6;
/** Rates fall with the size: a Transformer's from 2e-3 to 1e-3 above; GPT-3's by its power -0.47 from 125 million on. */
const EXPONENT = { below: -0.3, above: -0.2 } as const;
const MOST_GROWTH = 2;
const LEAST_RATE = 1e-4;

const TRANSFORMER = {
  rate: 3e-3,
  reason:
    "lower ones were worse but for the shortest runs, and 3e-3 was good at 11.6 million, 3,000 steps of 65,536 tokens",
} as const;
const MAMBA = {
  rate: 6e-3,
  reason: "the best of those tried at 1 million parameters; Gu & Dao 2023 take 8e-3 on DNA, where others have 2e-3",
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
  hybrid: { rate: 4e-3, reason: "between Mamba's and attention's" },
  h3: { rate: 3e-3, reason: "as S4D, whose blocks it holds" },
  "h3-s6": { rate: 3e-3, reason: "as H3" },
  s4d: { rate: 4e-3, reason: "the best of those tried at 1 million parameters" },
  transformer: TRANSFORMER,
  "transformer-moe": TRANSFORMER,
  lstm: { rate: 8e-3, reason: "with clipped gradients; 12e-3 was the best of those tried in short runs" },
  gru: { rate: 8e-3, reason: "as the LSTM" },
};

/** The default learning rate of an architecture at a size, two digits. */
export function learningRateOf(architecture: string, parameters: number): number {
  const { rate } = LEARNING_RATES[architecture] ?? TRANSFORMER;
  const exponent = EXPONENT[parameters < BASE_SIZE ? "below" : "above"];
  const scaled = rate * Math.min(MOST_GROWTH, (parameters / BASE_SIZE) ** exponent);
  return Number(Math.max(LEAST_RATE, scaled).toPrecision(2));
}
