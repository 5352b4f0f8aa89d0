// A model of random weights for measuring speed, written piece by piece in the form that inference uses.
import type { Backend } from "../../../backends/backend.ts";
import { createRandom } from "../../../core/random.ts";
import { sizeOf } from "../../../core/shape.ts";
import type { WeightDType } from "../../../models/checkpoint/load.ts";
import { PACKED } from "../../../models/checkpoint/load.ts";
import type { MambaConfig } from "../../../models/mamba/config.ts";
import { MambaModel } from "../../../models/mamba/model.ts";
import { createPackedWeight } from "../../../ops/linear/pack.ts";
import type { Parameter } from "../../../tensor/parameter.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import { tensorFrom } from "../../../tensor/tensor.ts";

const PIECE_ELEMENTS = 1 << 20;
/** Pieces begin at different places of the pool of random numbers, so that no two rows are alike for long. */
const STRIDE = 7919;

/**
 * Weights of the scale of the official initialisation, so that activations stay in their range; their values mean nothing.
 * Beside the packed weights only a pool of random numbers and one piece of 4 MB are in memory.
 * @throws BackendError when the memory does not suffice
 */
export function createRandomModel(
  config: MambaConfig,
  backend: Backend,
  dtype: WeightDType,
  onProgress: (share: number) => void,
): MambaModel {
  const random = createRandom(0);
  const pool = new Float32Array(PIECE_ELEMENTS);
  for (let i = 0; i < pool.length; i++) pool[i] = 2 * random.uniform() - 1;
  // One for all weights: buffers that wait for the garbage collector would count as peak memory.
  const piece = new Float32Array(PIECE_ELEMENTS);
  const model = new MambaModel(config);
  const total = model.parameterCount;
  let done = 0;
  try {
    for (const [name, parameter] of model.namedParameters()) {
      parameter.assign(
        parameter.isPackable
          ? packedRandom(parameter, backend, dtype, { pool, piece })
          : tensorFrom(backend, plainValues(name, parameter, config, pool), parameter.shape),
      );
      done += sizeOf(parameter.shape);
      onProgress(done / total);
    }
    if (dtype === "f16") model.activations = "f16";
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** U(±columns^-½), rows packed as they come. */
function packedRandom(
  { shape }: Parameter,
  backend: Backend,
  dtype: WeightDType,
  { pool, piece }: { pool: Float32Array; piece: Float32Array },
): Tensor {
  const [rows, columns] = shape as readonly [number, number];
  const packed = createPackedWeight(backend, shape, ...PACKED[dtype]);
  const bound = columns ** -0.5;
  const rowsPerPiece = Math.max(1, Math.floor(PIECE_ELEMENTS / columns));
  for (let row = 0; row < rows; row += rowsPerPiece) {
    const values = piece.subarray(0, Math.min(rowsPerPiece, rows - row) * columns);
    for (let i = 0; i < values.length; i++) values[i] = bound * pool[(row * STRIDE + i) % PIECE_ELEMENTS];
    packed.writeRows(row, values);
  }
  return packed.tensor;
}

/** The small parameters: as the official initialisation, but for one step size instead of random ones. */
function plainValues(name: string, { shape }: Parameter, { dState }: MambaConfig, pool: Float32Array): Float32Array {
  const data = new Float32Array(sizeOf(shape));
  if (name.endsWith("A_log")) return data.map((_, i) => Math.log(1 + (i % dState)));
  if (name.endsWith("norm.weight") || name.endsWith("norm_f.weight") || name.endsWith(".D")) return data.fill(1);
  // softplus⁻¹(0.01)
  if (name.endsWith("dt_proj.bias")) return data.fill(-4.6);
  if (name.endsWith("bias")) return data;
  return data.map((_, i) => 0.5 * pool[i % PIECE_ELEMENTS]);
}
