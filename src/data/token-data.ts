// Tokens of documents in memory, in the smallest integers that hold them.

import { DataError, UsageError } from "../core/errors.ts";

/** A list of token ids. */
export type Tokens = Uint8Array | Uint16Array | Int32Array;

/** Tokens of one or more documents, one after the other. */
export interface TokenData {
  /** Every token; Uint8Array up to 256 ids, Uint16Array up to 65 536, else Int32Array. */
  readonly tokens: Tokens;
  /** Where documents begin: ascending offsets into `tokens`, the first 0. */
  readonly documentStarts: Int32Array;
  /** UTF-8 bytes of the text behind the tokens. */
  readonly bytes: number;
}

/**
 * Joins tokenised documents. Empty ones are left out.
 * @param bytes UTF-8 bytes of all documents together.
 * @throws DataError when nothing is left or an id is not below `vocabSize`.
 */
export function joinDocuments(documents: readonly ArrayLike<number>[], vocabSize: number, bytes: number): TokenData {
  const filled = documents.filter((document) => document.length > 0);
  const length = filled.reduce((sum, document) => sum + document.length, 0);
  if (length === 0)
    throw new DataError(
      `data: there must be at least one token, got ${documents.length} empty documents. Give a text with something in it.`,
    );
  const tokens =
    vocabSize <= 2 ** 8
      ? new Uint8Array(length)
      : vocabSize <= 2 ** 16
        ? new Uint16Array(length)
        : new Int32Array(length);
  const documentStarts = new Int32Array(filled.length);
  let end = 0;
  for (const [index, document] of filled.entries()) {
    checkIds(document, vocabSize);
    documentStarts[index] = end;
    tokens.set(document, end);
    end += document.length;
  }
  return { tokens, documentStarts, bytes };
}

function checkIds(document: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < document.length; i++) {
    const id = document[i];
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new DataError(
        `data: token ids must be integers from 0 to ${vocabSize - 1}, got ${id}. Tokenise with the model's own tokenizer.`,
      );
    }
  }
}

/**
 * Splits every document: its last `fraction` of tokens (rounded) for evaluation, the rest for training. Always the same split.
 * `bytes` is shared out in proportion to tokens, which is exact for bytes as tokens and close otherwise.
 * @param fraction Above 0 and below 1, else UsageError.
 * @throws DataError when one of the parts would be empty.
 */
export function splitEvaluation(data: TokenData, fraction: number): { train: TokenData; evaluation: TokenData } {
  if (!(fraction > 0 && fraction < 1)) {
    throw new UsageError(
      `splitEvaluation: the fraction for evaluation must be above 0 and below 1, got ${fraction}. 0.05 is usual.`,
    );
  }
  const train: Tokens[] = [];
  const evaluation: Tokens[] = [];
  for (let i = 0; i < data.documentStarts.length; i++) {
    const start = data.documentStarts[i];
    const end = data.documentStarts[i + 1] ?? data.tokens.length;
    const cut = end - Math.round((end - start) * fraction);
    train.push(data.tokens.subarray(start, cut));
    evaluation.push(data.tokens.subarray(cut, end));
  }
  return { train: joinPart(data, train, fraction), evaluation: joinPart(data, evaluation, fraction) };
}

function joinPart(data: TokenData, parts: readonly Tokens[], fraction: number): TokenData {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length === 0) {
    throw new DataError(
      `splitEvaluation: training and evaluation must both get tokens, got none for one of them at fraction ${fraction} of ${data.tokens.length} tokens. Take more text or another fraction.`,
    );
  }
  const vocabSize = data.tokens instanceof Uint8Array ? 2 ** 8 : data.tokens instanceof Uint16Array ? 2 ** 16 : 2 ** 31;
  return joinDocuments(parts, vocabSize, Math.round((data.bytes * length) / data.tokens.length));
}
