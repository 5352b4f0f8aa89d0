// The tokenizers layer: text to token ids and back.
export { createByteTokenizer } from "./bytes.ts";
export { loadTokenizer } from "./load.ts";
export { createTokenizer } from "./hugging-face.ts";
export type { Detokenizer, Tokenizer } from "./tokenizer.ts";
