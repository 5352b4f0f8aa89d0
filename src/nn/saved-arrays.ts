// Arrays of a saved state: their shapes are known before the first is read, so that a refused file leaves no memory behind.
import { CheckpointError } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import { formatShape, isSameShape } from "../core/shape.ts";

/** Named arrays in a file or in memory. */
export interface SavedArrays {
  readonly shapes: ReadonlyMap<string, Shape>;
  read(name: string): Promise<Float32Array>;
}

/** Throws CheckpointError where names or shapes are not exactly those that a model's state has. `where` names the file. */
export function checkSavedShapes(saved: SavedArrays, expected: ReadonlyMap<string, Shape>, where: string): void {
  for (const name of new Set([...expected.keys(), ...saved.shapes.keys()])) {
    const [wanted, got] = [expected.get(name), saved.shapes.get(name)];
    if (!wanted || !got || !isSameShape(wanted, got))
      throw new CheckpointError(
        `${where}: ${name} must be ${wanted ? formatShape(wanted) : "absent"} for this model, got ${got ? formatShape(got) : "nothing"}. Was the state saved by another model?`,
      );
  }
}
