// Options of crossEntropy.

export interface CrossEntropyOptions {
  /** A target that stands for "no target here". Default -100, PyTorch's. */
  readonly ignoreIndex?: number;
  /** Only the first columns are a vocabulary; those beyond are padding and get no probability. Default: all columns. */
  readonly vocabSize?: number;
  /** Whether targets are checked on the host first; default true. Unchecked, a target out of range gives NaN. */
  readonly checked?: boolean;
}

/** The default of {@link CrossEntropyOptions.ignoreIndex}. */
export const IGNORE_INDEX = -100;
