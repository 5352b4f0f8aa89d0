// StackState: what a stack remembers: tensors of constant size, and caches that grow with the sequence where it attends.
import type { Backend } from "../../backends/backend.ts";
import { ConfigError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import type { ModelState, NamedArray } from "../../nn/language-model.ts";
import type { SavedArrays } from "../../nn/saved-arrays.ts";
import { checkSavedShapes } from "../../nn/saved-arrays.ts";
import { keep, scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { copyInto, copyOf, emptyTensor, tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { MixerState } from "./mixer.ts";

/** Of each mixer of a stack: shapes of what has a constant size, and widths of what has a row a token. */
export interface StateLayout {
  readonly mixers: readonly {
    /** Its place: `layers.3.0`. */
    readonly name: string;
    readonly shapes: (batch: number) => Readonly<Record<string, Shape>>;
    readonly caches: Readonly<Record<string, number>>;
  }[];
  readonly hasCaches: boolean;
}

/** Caches grow by so many rows at least, and by an eighth of what they have. */
const GROWTH = 64;

/** The state of a stack after some tokens. Rows of a batch may have different numbers of them. */
export class StackState implements ModelState {
  readonly #layout: StateLayout;
  readonly backend: Backend;
  readonly batch: number;
  /** Mixer by mixer. Caches are absent before the first token. */
  mixers: MixerState[];
  /** i32 `[batch]`: tokens of each row; of a stack with caches. */
  readonly lengths: Tensor | undefined;
  /** Tokens of the longest row. */
  position: number;
  /** Whether its tensors are all there is: not after a pass under a tape that kept no state. */
  readonly isSpent: boolean;
  /** Element type of caches. */
  readonly cacheDType: "f32" | "f16";
  #capacity: number;

  constructor(
    layout: StateLayout,
    backend: Backend,
    parts: {
      batch: number;
      mixers: MixerState[];
      lengths: Tensor | undefined;
      position: number;
      capacity?: number;
      isSpent?: boolean;
      cacheDType?: "f32" | "f16";
    },
  ) {
    this.#layout = layout;
    this.backend = backend;
    this.batch = parts.batch;
    this.mixers = parts.mixers;
    this.lengths = parts.lengths && keep(parts.lengths);
    this.position = parts.position;
    this.isSpent = parts.isSpent ?? false;
    this.cacheDType = parts.cacheDType ?? "f32";
    this.#capacity = parts.capacity ?? 0;
    for (const mixer of this.mixers) Object.values(mixer).forEach(keep);
  }

  /** The state before the first token. */
  static initial(
    layout: StateLayout,
    backend: Backend,
    { batch, cacheDType }: { batch: number; cacheDType: "f32" | "f16" },
  ): StackState {
    const mixers = layout.mixers.map(({ shapes }) => mapValues(shapes(batch), (shape) => zeros(backend, shape)));
    const lengths = layout.hasCaches ? tensorFrom(backend, new Int32Array(batch), [batch], "i32") : undefined;
    return new StackState(layout, backend, { batch, mixers, lengths, position: 0, cacheDType });
  }

  /** Whether no token was read yet. */
  get isFresh(): boolean {
    return this.position === 0;
  }

  get room(): number | undefined {
    return this.#layout.hasCaches ? Math.max(0, this.#capacity - this.position) : undefined;
  }

  /** Makes caches that have room for `tokens` more. */
  reserve(tokens: number): void {
    if (!this.#layout.hasCaches) return;
    const needed = this.position + tokens;
    const isThere = this.mixers.some((mixer, i) =>
      Object.keys(this.#layout.mixers[i].caches).some((name) => mixer[name]),
    );
    if (needed > this.#capacity) {
      const grown = Math.max(needed, this.#capacity + Math.max(GROWTH, this.#capacity >> 3));
      this.#capacity = Math.ceil(grown / GROWTH) * GROWTH;
    } else if (isThere) return;
    this.mixers = this.mixers.map((mixer, i) => this.#grow(mixer, this.#layout.mixers[i].caches));
  }

  advance(tokens: number): void {
    this.position += tokens;
  }

  fork(): StackState {
    return this.#with(this.batch, copyOf);
  }

  select(indices: readonly number[]): StackState {
    return this.#with(indices.length, (tensor) => gather(indices.map((index) => rowOf(tensor, index))));
  }

  /** States of one layout, side by side. Shorter caches are filled up. */
  static stack(states: readonly StackState[]): StackState {
    const [first] = states;
    const most = Math.max(...states.map((state) => state.#capacity));
    for (const state of states) state.reserve(most - state.position);
    const batch = states.reduce((sum, state) => sum + state.batch, 0);
    const all = (of: (state: StackState) => Tensor): Tensor => gather(states.map(of));
    const mixers = first.mixers.map((mixer, i) => mapValues(mixer, (_, name) => all((state) => state.mixers[i][name])));
    return new StackState(first.#layout, first.backend, {
      batch,
      mixers,
      lengths: first.lengths && all((state) => state.lengths!),
      position: Math.max(...states.map(({ position }) => position)),
      capacity: first.#capacity,
      cacheDType: first.cacheDType,
    });
  }

  async toArrays(): Promise<NamedArray[]> {
    if (this.isSpent) throw spentError();
    const arrays: NamedArray[] = [];
    if (this.lengths)
      arrays.push({ name: "lengths", shape: [this.batch], data: Float32Array.from(await this.lengths.readNative()) });
    for (const [i, { name: place, shapes, caches }] of this.#layout.mixers.entries()) {
      for (const name of Object.keys(shapes(this.batch))) {
        const tensor = this.mixers[i][name];
        arrays.push({ name: `${place}.${name}`, shape: tensor.shape, data: await tensor.read() });
      }
      for (const [name, width] of Object.entries(caches)) {
        const shape = [this.batch, this.position, width];
        arrays.push({ name: `${place}.${name}`, shape, data: await this.#readCache(this.mixers[i][name], width) });
      }
    }
    return arrays;
  }

  /** From the arrays of {@link toArrays}, checked against a layout. */
  static async fromArrays(
    layout: StateLayout,
    backend: Backend,
    saved: SavedArrays,
    where: string,
  ): Promise<StackState> {
    const [first] = saved.shapes.values();
    const batch = first?.[0] ?? 1;
    const cached = layout.mixers.find(({ caches }) => Object.keys(caches).length > 0);
    const position = cached ? (saved.shapes.get(`${cached.name}.${Object.keys(cached.caches)[0]}`)?.[1] ?? 0) : 1;
    const expected = new Map<string, Shape>(layout.hasCaches ? [["lengths", [batch]]] : []);
    for (const { name: place, shapes, caches } of layout.mixers) {
      for (const [name, shape] of Object.entries(shapes(batch))) expected.set(`${place}.${name}`, shape);
      for (const [name, width] of Object.entries(caches)) expected.set(`${place}.${name}`, [batch, position, width]);
    }
    checkSavedShapes(saved, expected, where);
    const read = async (name: string): Promise<Tensor> =>
      tensorFrom(backend, await saved.read(name), expected.get(name)!);
    const mixers: MixerState[] = [];
    for (const { name: place, shapes, caches } of layout.mixers) {
      const mixer: Record<string, Tensor> = {};
      for (const name of [...Object.keys(shapes(batch)), ...(position > 0 ? Object.keys(caches) : [])])
        mixer[name] = await read(`${place}.${name}`);
      mixers.push(mixer);
    }
    const lengths = layout.hasCaches
      ? tensorFrom(backend, Int32Array.from(await saved.read("lengths")), [batch], "i32")
      : undefined;
    return new StackState(layout, backend, { batch, mixers, lengths, position, capacity: position });
  }

  dispose(): void {
    this.lengths?.dispose();
    for (const mixer of this.mixers) for (const tensor of Object.values(mixer)) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A mixer's state with caches of the capacity, what they held copied. */
  #grow(mixer: MixerState, caches: Readonly<Record<string, number>>): MixerState {
    const grown: Record<string, Tensor> = { ...mixer };
    for (const [name, width] of Object.entries(caches)) {
      const old = mixer[name] as Tensor | undefined;
      const cache = keep(
        zeros(this.backend, [this.batch, this.#capacity, width], (old?.dtype ?? this.cacheDType) as "f32" | "f16"),
      );
      if (old) {
        const columns = old.shape[1] * width;
        copyInto(
          old.reshape([this.batch, columns]),
          cache.reshape([this.batch, this.#capacity * width]).columnsOf(0, columns),
        );
        old.dispose();
      }
      grown[name] = cache;
    }
    return grown;
  }

  #readCache(cache: Tensor | undefined, width: number): Promise<Float32Array> {
    if (!cache || this.position === 0) return Promise.resolve(new Float32Array(0));
    return cache
      .reshape([this.batch, this.#capacity * width])
      .columnsOf(0, this.position * width)
      .read();
  }

  /** Where memory does not suffice for all, the scope gives back what was made. */
  #with(batch: number, change: (tensor: Tensor) => Tensor): StackState {
    const { position, isSpent, cacheDType } = this;
    return scope(() => {
      const mixers = this.mixers.map((mixer) => mapValues(mixer, change));
      const lengths = this.lengths && change(this.lengths);
      const parts = { batch, mixers, lengths, position, capacity: this.#capacity, isSpent, cacheDType };
      return new StackState(this.#layout, this.backend, parts);
    });
  }
}

/** A pass that kept no state cannot be continued. */
export function spentError(): ConfigError {
  return new ConfigError(
    "StackModel: the state of a training pass holds no keys and values, and cannot be continued. Train without carryState, or leave out the attention layers.",
  );
}

function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  change: (value: A, name: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value, name)]));
}

/** Tensors `[batch, ...]` of one width behind each other, as one. */
function gather(tensors: readonly Tensor[]): Tensor {
  const [{ backend, dtype, shape, size }] = tensors;
  const batch = tensors.reduce((sum, tensor) => sum + tensor.shape[0], 0);
  const width = size / shape[0];
  const all = emptyTensor(backend, [batch, ...shape.slice(1)], dtype);
  const rows = all.reshape([batch, width]);
  let at = 0;
  for (const tensor of tensors) {
    copyInto(tensor.reshape([tensor.shape[0], width]), rows.entries(at, tensor.shape[0]));
    at += tensor.shape[0];
  }
  return all;
}

/** One row of a batch, as a batch of one. */
function rowOf(tensor: Tensor, index: number): Tensor {
  const { shape, size } = tensor;
  return tensor
    .reshape([shape[0], size / shape[0]])
    .entries(index, 1)
    .reshape([1, ...shape.slice(1)]);
}
