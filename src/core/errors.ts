// The error classes of the library, one a kind. A text says where, the rule, what came, and the remedy.

/** Base of every error that this library throws on purpose. The command line prints its message without a stack. */
export class MambaError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Shapes of an op's arguments do not fit together. */
export class ShapeError extends MambaError {}
/** An element type is not what an op or a file format allows. */
export class DTypeError extends MambaError {}
/** A device is missing, lacks a kernel, or has no memory left. */
export class BackendError extends MambaError {}
/** A checkpoint file is damaged, hostile, or does not fit the model. */
export class CheckpointError extends MambaError {}
/** A configuration (of a model, a tokenizer, a training run) has a field that breaks its rule. */
export class ConfigError extends MambaError {}
/** Data (text, tokens, recordings) is missing, too short, or out of range. */
export class DataError extends MambaError {}
/** The command line was used in a way it does not know. Exit code 2. */
export class UsageError extends MambaError {}
