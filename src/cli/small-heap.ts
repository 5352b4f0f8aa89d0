// Asks V8 for a small heap, before anything fills it: weights and activations live outside, in the WASM memory. Parsing a
// large tokenizer.json then leaves some 40 MB less behind.
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--optimize-for-size");
