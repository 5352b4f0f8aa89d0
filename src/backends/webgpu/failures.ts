// What went wrong on a device. WebGPU says so late and beside the call; here it becomes a BackendError at the next call
// that can throw, and in every wait that was under way.
import { BackendError } from "../../core/errors.ts";

/** What WebGPU says of objects and commands that are void because of an error before. */
const IS_CONSEQUENCE = /is invalid due to a previous error/;

/**
 * The errors of one device. A lost or disposed device fails for ever. Any other error is told once: to the next check,
 * or to all who wait; then the device is used on.
 */
export class Failures {
  readonly #waiting = new Set<(error: BackendError) => void>();
  readonly #scopes = new Set<Promise<void>>();
  #untold: BackendError | undefined;
  /** The last error that was not a mere consequence of another. */
  #cause: BackendError | undefined;
  #count = 0;
  #end: BackendError | undefined;

  constructor(device: GPUDevice) {
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#addFound(event.error);
    });
    void device.lost.then(({ message }) => this.close(lostError(message)));
  }

  /** Whether the device is lost or disposed of. */
  get isEnded(): boolean {
    return this.#end !== undefined;
  }

  /** Rises with every error. */
  get count(): number {
    return this.#count;
  }

  /** Throws the error that nobody was told of yet, or why the device is of no use any more. */
  check(): void {
    if (this.#end) throw this.#end;
    if (!this.#untold) return;
    const error = this.#untold;
    this.#untold = undefined;
    throw error;
  }

  add(error: BackendError): void {
    this.#count++;
    this.#cause = error;
    this.#untold ??= error;
  }

  /** Takes back the errors since `count`, for the caller has dealt with them. */
  forgetSince(count: number): void {
    if (this.#count > count) this.#untold = undefined;
    this.#count = count;
  }

  /** Errors of one kind that arise in `body` go to `found`, in time for whoever waits with {@link guard}. */
  watch<T>(device: GPUDevice, filter: GPUErrorFilter, body: () => T, found: (error: GPUError) => void): T {
    device.pushErrorScope(filter);
    try {
      return body();
    } finally {
      const scope = device.popErrorScope().then(
        (error) => void (error && found(error)),
        () => undefined, // A lost device has no scopes.
      );
      this.#scopes.add(scope);
      void scope.finally(() => this.#scopes.delete(scope));
    }
  }

  /**
   * Does something that waits for the device. @throws BackendError for what failed before or fails meanwhile, and when
   * the device is lost or disposed of
   */
  async guard<T>(what: string, begin: () => Promise<T>): Promise<T> {
    this.check();
    const before = this.#count;
    const result = await this.#orEnd(begin()).catch((cause: unknown) => {
      if (cause instanceof BackendError) throw cause;
      throw this.#told() ?? new BackendError(`webgpu: ${what} failed: ${(cause as Error).message}`, { cause });
    });
    await Promise.all(this.#scopes);
    if (this.#end) throw this.#end;
    if (this.#count !== before) throw this.#told()!;
    return result;
  }

  /** From now on everything fails with this error, also what waits. */
  close(error: BackendError): void {
    if (this.#end) return;
    this.#end = error;
    for (const reject of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  #told(): BackendError | undefined {
    this.#untold = undefined;
    return this.#end ?? this.#cause;
  }

  /** `work`, unless the device ends before. No Promise.race with device.lost: that would keep all results for ever. */
  #orEnd<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      work.then(resolve, reject).finally(() => this.#waiting.delete(reject));
    });
  }

  #addFound(error: GPUError): void {
    if (!IS_CONSEQUENCE.test(error.message)) return this.add(describeError(error));
    this.#count++;
    const tell = (): void => void (this.#untold ??= this.#cause ?? describeError(error));
    if (this.#scopes.size === 0) tell();
    else void Promise.all(this.#scopes).then(tell); // One of them may know the cause.
  }
}

function describeError(error: GPUError): BackendError {
  return error.constructor.name === "GPUOutOfMemoryError"
    ? memoryError(`the device's memory is full (${error.message.split("\n")[0]})`, error)
    : new BackendError(`webgpu: ${error.message.trim()}`, { cause: error });
}

/** @param what the sentence before the remedy, without its end */
export function memoryError(what: string, cause?: unknown): BackendError {
  return new BackendError(
    `webgpu: ${what}. Use a smaller batch or length, f16 or int8 weights, or --checkpoint-blocks.`,
    { cause },
  );
}

function lostError(message: string): BackendError {
  return new BackendError(
    `webgpu: the device was lost (${message.trim() || "no reason given"}). Open a new one and load again.`,
  );
}

export function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
