// What a tokenizer is: text to token ids and back, whole or as a stream.

/** Turns text into token ids and ids into text. Stateless; safe to share. */
export interface Tokenizer {
  /** `"bytes"`, or the kind of model a `tokenizer.json` holds (`"BPE"`, `"Unigram"`, ...). */
  readonly name: string;
  /** One more than the largest id. A model's vocabulary may be larger (padded), never smaller. */
  readonly vocabSize: number;
  /** Id of the token that ends a text, or undefined where there is none (bytes). */
  readonly endOfText: number | undefined;
  /**
   * Token ids of a text. No special tokens are added; special tokens written out in the text (`<|endoftext|>`) are recognised.
   * @throws ConfigError when the tokenizer's file makes no sense for this text.
   */
  encode(text: string): Int32Array;
  /**
   * Text of token ids: what a detokenizer says for them one by one. Special tokens are written out. Bytes that are not UTF-8
   * become U+FFFD; ids from vocabSize on (a model's padding) are no text.
   * @throws DataError for what is no token id.
   */
  decode(ids: ArrayLike<number>): string;
  /** A stream of the same text, for ids that come one at a time. */
  createDetokenizer(): Detokenizer;
  /** What a checkpoint folder saves so that `loadTokenizer` finds this tokenizer again: file names and their text. */
  files(): Record<string, string>;
}

/** Text from ids that come one at a time: `push` results and `flush`, joined, equal `decode` of all ids. */
export interface Detokenizer {
  /** Takes an id and returns the text that is certain now: never half a character, never a U+FFFD that later bytes complete. */
  push(id: number): string;
  /** The text of what still waited, as it is: incomplete bytes become U+FFFD. The stream then starts anew. */
  flush(): string;
}
