// Cases that lstm and gru are both tested with.
import type { InputSpec, OpCase } from "./test-op.ts";
import { GATES } from "../../src/ops/recurrent/cells.ts";
import type { CellName } from "../../src/ops/recurrent/cells.ts";

interface CaseSizes {
  readonly batch: number;
  readonly length: number;
  readonly dHidden: number;
  /** Whether there are initial states. Default true. */
  readonly hasStates?: boolean;
  /** The share of tokens that start a document. Default 0: no documentStarts. */
  readonly starts?: number;
  /** Of gates and weight. */
  readonly extraColumns?: number;
}

/** Inputs of either op; weights small enough for gates that are neither open nor closed. */
export function recurrentInputs(cell: CellName, sizes: CaseSizes): Record<string, InputSpec> {
  const { batch, length, dHidden, hasStates = true, starts = 0, extraColumns } = sizes;
  const width = GATES[cell] * dHidden;
  const view = extraColumns === undefined ? {} : { extraColumns };
  const scale = 1 / Math.sqrt(dHidden);
  const state: InputSpec = { shape: [batch, dHidden] };
  return {
    gates: { shape: [batch, length, width], ...view },
    weight: { shape: [width, dHidden], element: (random) => scale * random.normal(), ...view },
    ...(cell === "gru" && { bias: { shape: [width], element: (random) => 0.3 * random.normal() } }),
    ...(hasStates && { initialH: state, ...(cell === "lstm" && { initialC: state }) }),
    ...(starts > 0 && {
      documentStarts: { shape: [batch, length], dtype: "i32", element: (random) => Number(random.uniform() < starts) },
    }),
  };
}

export function recurrentCase(cell: CellName, sizes: CaseSizes, unused: readonly string[] = []): OpCase<object> {
  const { hasStates = true, starts = 0, extraColumns, ...rest } = sizes;
  const words = [
    Object.entries(rest).map(([name, size]) => `${name} ${size}`),
    hasStates ? [] : ["no states"],
    starts > 0 ? ["documents"] : [],
    extraColumns === undefined ? [] : ["views"],
    unused.map((name) => `${name} unused`),
  ];
  return { name: words.flat().join(", "), inputs: recurrentInputs(cell, sizes), options: {}, unused };
}

/** What every device must do. */
export function recurrentCases(cell: CellName): OpCase<object>[] {
  const finals = cell === "lstm" ? ["finalH", "finalC"] : ["finalH"];
  return [
    recurrentCase(cell, { batch: 1, length: 1, dHidden: 1 }),
    recurrentCase(cell, { batch: 2, length: 7, dHidden: 5, starts: 0.3 }),
    recurrentCase(cell, { batch: 3, length: 6, dHidden: 12, hasStates: false }, finals),
    recurrentCase(cell, { batch: 2, length: 5, dHidden: 8, extraColumns: 4, starts: 0.2 }),
    recurrentCase(cell, { batch: 2, length: 4, dHidden: 6, extraColumns: 3 }, ["y"]),
    recurrentCase(cell, { batch: 5, length: 3, dHidden: 21 }),
  ];
}

/** What takes other kernels: for large states and long sequences on a GPU, several threads a token on a CPU. */
export function largeCases(cell: CellName): OpCase<object>[] {
  return [
    recurrentCase(cell, { batch: 9, length: 3, dHidden: 132, starts: 0.3 }),
    recurrentCase(cell, { batch: 1, length: 3, dHidden: 261, hasStates: false }),
    recurrentCase(cell, { batch: 3, length: 5, dHidden: 100, starts: 0.3 }),
    recurrentCase(cell, { batch: 2, length: 1030, dHidden: 3, starts: 0.01 }),
  ];
}
