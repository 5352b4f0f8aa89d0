// Colours and marks of the models: the same in every chart, distinct for colour-blind eyes, and told apart by shape too.
import type { Report } from "./schema.ts";

export interface Style {
  readonly colour: string;
  readonly symbol: "circle" | "square2" | "triangle" | "diamond2" | "star" | "wye" | "cross" | "triangle2";
  /** Of a line: empty for a solid one. */
  readonly dash: string;
}

export const INK = "#1f2328";
export const MUTED = "#59636e";
export const GRID = "#d8dee4";
export const FONT = "Inter, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif";

/** Okabe and Ito's colours, the yellow darkened for white paper, and three of Paul Tol's. */
const FAMILIES: ReadonlyMap<string, string> = new Map([
  ["mamba", "#0072b2"],
  ["transformer", "#d55e00"],
  ["lstm", "#009e73"],
  ["gru", "#b8860b"],
  ["s4d", "#cc79a7"],
  ["h3", "#3fa7dd"],
  ["mamba-moe", "#332288"],
  ["mamba-2", "#117733"],
]);
const SPARE = ["#882255", "#7a7a00", "#44aa99", "#aa4499", "#6b4c9a", "#8b4513", "#117733", "#332288"];
const SYMBOLS = ["circle", "square2", "triangle", "diamond2", "star", "wye", "cross", "triangle2"] as const;
const DASHES = ["", "6 3", "2 3"];

/** By the names of models, and by those of architectures that only the sweep has. */
export function stylesOf(report: Report): ReadonlyMap<string, Style> {
  const styles = new Map<string, Style>();
  const taken = new Set<string>();
  const add = (name: string, architecture: string): void => {
    if (styles.has(name)) return;
    const family = FAMILIES.get(familyOf(architecture));
    const free = [family, ...SPARE].find((colour) => colour !== undefined && !taken.has(colour));
    const colour = free ?? SPARE[styles.size % SPARE.length];
    taken.add(colour);
    const symbol = SYMBOLS[styles.size % SYMBOLS.length];
    styles.set(name, { colour, symbol, dash: free === undefined ? DASHES[1] : DASHES[0] });
  };
  // The first model of a family has the family's colour; what follows takes from the spare ones, after all families.
  const first = new Map(report.models.toReversed().map((model) => [familyOf(model.architecture), model.name]));
  for (const { name, architecture } of report.models)
    if (first.get(familyOf(architecture)) === name) add(name, architecture);
  for (const { name, architecture } of report.models) add(name, architecture);
  for (const { architecture } of report.sweep?.points ?? []) add(architecture, architecture);
  return styles;
}

/** Of a measurement of other software: grey, dashed. */
export function referenceStyle(index: number): Style {
  return { colour: "#6e7781", symbol: SYMBOLS[(index + 6) % SYMBOLS.length], dash: DASHES[1 + (index % 2)] };
}

function familyOf(architecture: string): string {
  const name = architecture.toLowerCase();
  return name.startsWith("transformer") ? "transformer" : name;
}
