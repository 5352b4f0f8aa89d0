// A first-fit allocator over one growing address range: free blocks by address, neighbours merged.

/** Every block begins at a multiple of this many bytes (a cache line). */
export const ALIGNMENT = 64;

/** Hands out addresses; see the file's first line. Throws RangeError for what is freed twice. */
export class Allocator {
  /** Free blocks by ascending address: starts[i] and sizes[i]. */
  readonly #starts: number[] = [];
  readonly #sizes: number[] = [];
  readonly #used = new Map<number, number>();
  readonly #grow: (end: number) => void;
  #end: number;
  #liveBytes = 0;
  #peakBytes = 0;

  /** @param start first usable address. @param grow makes addresses below `end` usable, or throws. */
  constructor(start: number, grow: (end: number) => void) {
    this.#end = align(start);
    this.#grow = grow;
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  resetPeak(): void {
    this.#peakBytes = this.#liveBytes;
  }

  /** Address of `bytes` bytes, undefined contents. */
  allocate(bytes: number): number {
    const size = align(Math.max(bytes, 1));
    const address = this.#takeFree(size) ?? this.#extend(size);
    this.#used.set(address, size);
    this.#liveBytes += size;
    if (this.#liveBytes > this.#peakBytes) this.#peakBytes = this.#liveBytes;
    return address;
  }

  free(address: number): void {
    const size = this.#used.get(address);
    if (size === undefined) throw new RangeError(`Allocator.free: ${address} is not allocated (freed twice?)`);
    this.#used.delete(address);
    this.#liveBytes -= size;
    this.#insert(address, size);
  }

  #takeFree(size: number): number | undefined {
    const index = this.#sizes.findIndex((free) => free >= size);
    if (index < 0) return undefined;
    const start = this.#starts[index];
    const rest = this.#sizes[index] - size;
    if (rest === 0) {
      this.#starts.splice(index, 1);
      this.#sizes.splice(index, 1);
    } else {
      this.#starts[index] = start + size;
      this.#sizes[index] = rest;
    }
    return start;
  }

  #extend(size: number): number {
    const last = this.#starts.length - 1;
    const lastIsAtEnd = last >= 0 && this.#starts[last] + this.#sizes[last] === this.#end;
    const start = lastIsAtEnd ? this.#starts[last] : this.#end;
    this.#grow(start + size);
    if (lastIsAtEnd) {
      this.#starts.pop();
      this.#sizes.pop();
    }
    this.#end = start + size;
    return start;
  }

  #insert(start: number, size: number): void {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle] < start) low = middle + 1;
      else high = middle;
    }
    this.#starts.splice(low, 0, start);
    this.#sizes.splice(low, 0, size);
    this.#mergeWithNext(low);
    if (low > 0) this.#mergeWithNext(low - 1);
  }

  #mergeWithNext(index: number): void {
    const end = this.#starts[index] + this.#sizes[index];
    if (this.#starts[index + 1] !== end) return;
    this.#sizes[index] += this.#sizes[index + 1];
    this.#starts.splice(index + 1, 1);
    this.#sizes.splice(index + 1, 1);
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
