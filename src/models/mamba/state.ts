// MambaState: what a Mamba model remembers of all tokens so far. A value of constant size, independent of the length.
import type { Backend } from "../../backends/backend.ts";
import type { ModelState, NamedArray } from "../../nn/language-model.ts";
import type { SavedArrays } from "../../nn/saved-arrays.ts";
import { checkSavedShapes } from "../../nn/saved-arrays.ts";
import { keep, scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { copyInto, copyOf, emptyTensor, tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { MambaConfig } from "./config.ts";

/** The state of one layer. */
export interface LayerState {
  /** The last dConv - 1 inputs of the convolution, oldest first: `[batch, dConv - 1, dInner]`. */
  readonly conv: Tensor;
  /** h: `[batch, dInner, dState]`. */
  readonly ssm: Tensor;
}

/** Shapes of a layer's state. */
export function layerStateShapes(config: MambaConfig, batch: number): { conv: number[]; ssm: number[] } {
  return { conv: [batch, config.dConv - 1, config.dInner], ssm: [batch, config.dInner, config.dState] };
}

/** Bytes of a state in float32: 4 · nLayer · dInner · (dConv - 1 + dState) a sequence. */
export function stateBytes(config: MambaConfig, batch = 1): number {
  return 4 * batch * config.nLayer * config.dInner * (config.dConv - 1 + config.dState);
}

/** conv and ssm states of all layers. `fork` it to branch, `toArrays` to save it. */
export class MambaState implements ModelState {
  readonly layers: readonly LayerState[];

  /** Takes over the tensors: dispose() gives their memory back. */
  constructor(layers: readonly LayerState[]) {
    this.layers = layers;
    for (const { conv, ssm } of layers) [conv, ssm].forEach(keep);
  }

  /** The state before the first token: zeros. */
  static initial(config: MambaConfig, backend: Backend, batch = 1): MambaState {
    const shapes = layerStateShapes(config, batch);
    return new MambaState(
      Array.from({ length: config.nLayer }, () => ({
        conv: zeros(backend, shapes.conv),
        ssm: zeros(backend, shapes.ssm),
      })),
    );
  }

  get batch(): number {
    return this.layers[0].ssm.shape[0];
  }

  /** A copy that goes its own way: continue one prompt in several directions. */
  fork(): MambaState {
    return this.#map(copyOf);
  }

  /** The rows `indices` of the batch, as a new state. */
  select(indices: readonly number[]): MambaState {
    return this.#map((tensor) => gather(indices.map((index) => tensor.entries(index, 1))));
  }

  /** Several states of one sequence each, as one batch. */
  static stack(states: readonly MambaState[]): MambaState {
    const layers = states[0].layers.map((_, layer) => ({
      conv: gather(states.map((state) => state.layers[layer].conv)),
      ssm: gather(states.map((state) => state.layers[layer].ssm)),
    }));
    return new MambaState(layers);
  }

  /** All numbers as float32, layer by layer: conv, then ssm. The same bytes on every device. */
  async toArrays(): Promise<NamedArray[]> {
    const arrays: NamedArray[] = [];
    for (const [i, { conv, ssm }] of this.layers.entries()) {
      arrays.push({ name: `layers.${i}.conv`, shape: conv.shape, data: await conv.read() });
      arrays.push({ name: `layers.${i}.ssm`, shape: ssm.shape, data: await ssm.read() });
    }
    return arrays;
  }

  /** A state from saved arrays, checked against a model's configuration. `where` names their file in errors. */
  static async fromArrays(
    config: MambaConfig,
    backend: Backend,
    saved: SavedArrays,
    where: string,
  ): Promise<MambaState> {
    const shapes = layerStateShapes(config, saved.shapes.get("layers.0.ssm")?.[0] ?? 1);
    const expected = new Map<string, readonly number[]>();
    for (let i = 0; i < config.nLayer; i++)
      expected.set(`layers.${i}.conv`, shapes.conv).set(`layers.${i}.ssm`, shapes.ssm);
    checkSavedShapes(saved, expected, where);
    const load = async (name: string): Promise<Tensor> =>
      tensorFrom(backend, await saved.read(name), expected.get(name)!);
    const layers: LayerState[] = [];
    for (let i = 0; i < config.nLayer; i++)
      layers.push({ conv: await load(`layers.${i}.conv`), ssm: await load(`layers.${i}.ssm`) });
    return new MambaState(layers);
  }

  dispose(): void {
    for (const { conv, ssm } of this.layers) {
      conv.dispose();
      ssm.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Where memory does not suffice for all, the scope gives back what was made. */
  #map(change: (tensor: Tensor) => Tensor): MambaState {
    return scope(() => new MambaState(this.layers.map(({ conv, ssm }) => ({ conv: change(conv), ssm: change(ssm) }))));
  }
}

/** Tensors `[batch, ...]` behind each other, as one. */
function gather(tensors: readonly Tensor[]): Tensor {
  const [{ backend, dtype, shape }] = tensors;
  const batch = tensors.reduce((sum, tensor) => sum + tensor.shape[0], 0);
  const all = emptyTensor(backend, [batch, ...shape.slice(1)], dtype);
  let at = 0;
  for (const tensor of tensors) {
    copyInto(tensor, all.entries(at, tensor.shape[0]));
    at += tensor.shape[0];
  }
  return all;
}
