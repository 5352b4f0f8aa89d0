// The official initialisation of a Mamba-1 language model.
// Source: state-spaces/mamba, modules/mamba_simple.py and models/mixer_seq_simple.py _init_weights.
import type { Backend } from "../../backends/backend.ts";
import type { Random } from "../../core/random.ts";
import { sizeOf } from "../../core/shape.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { MambaConfig } from "./config.ts";
import type { MambaModel } from "./model.ts";

const EMBEDDING_DEVIATION = 0.02;
const DT_MIN = 0.001;
const DT_MAX = 0.1;
const DT_FLOOR = 1e-4;

/**
 * Gives every parameter its first value:
 * - A_log = log(1..dState) in every channel (S4D-real), D = 1, norms 1, embedding N(0, 0.02);
 * - dt_proj.weight U(±dtRank^-½); dt_proj.bias = softplus⁻¹(dt), dt log-uniform in [0.001, 0.1], at least 1e-4;
 * - other linear weights U(±fanIn^-½) (PyTorch's kaiming_uniform(√5)), their biases 0; conv weight and bias U(±dConv^-½);
 * - out_proj.weight U(±fanIn^-½) / √nLayer.
 */
export function initializeMamba(model: MambaModel, backend: Backend, random: Random): void {
  for (const [name, parameter] of model.namedParameters()) {
    const element = elementRule(name, parameter, model.config, random);
    const data = new Float32Array(sizeOf(parameter.shape));
    for (let i = 0; i < data.length; i++) data[i] = element(i);
    parameter.assign(tensorFrom(backend, data, parameter.shape));
  }
}

function elementRule(
  name: string,
  parameter: Parameter,
  config: MambaConfig,
  random: Random,
): (index: number) => number {
  const uniform = (bound: number) => (): number => (2 * random.uniform() - 1) * bound;
  const fanIn = parameter.shape.at(-1)!;
  if (name.endsWith("norm.weight") || name.endsWith("norm_f.weight") || name.endsWith("mixer.D")) return () => 1;
  if (name.endsWith("A_log")) return (index) => Math.log(1 + (index % config.dState));
  if (name.endsWith("embeddings.weight")) return () => EMBEDDING_DEVIATION * random.normal();
  if (name.endsWith("conv1d.weight") || name.endsWith("conv1d.bias")) return uniform(config.dConv ** -0.5);
  if (name.endsWith("dt_proj.weight")) return uniform(config.dtRank ** -0.5);
  if (name.endsWith("dt_proj.bias")) return () => inverseSoftplus(randomStep(random));
  if (name.endsWith("bias")) return () => 0;
  if (name.endsWith("out_proj.weight")) return uniform(fanIn ** -0.5 / Math.sqrt(config.nLayer));
  return uniform(fanIn ** -0.5);
}

/** dt, log-uniform. */
export function randomStep(random: Random): number {
  return Math.max(DT_FLOOR, Math.exp(random.uniform() * (Math.log(DT_MAX) - Math.log(DT_MIN)) + Math.log(DT_MIN)));
}

/** The x of softplus(x) = dt: dt + log(1 - exp(-dt)). */
export function inverseSoftplus(dt: number): number {
  return dt + Math.log(-Math.expm1(-dt));
}
