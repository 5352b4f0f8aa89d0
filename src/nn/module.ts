// Module: what owns parameters. Names of checkpoints follow from the names of fields.
import { Parameter } from "../tensor/parameter.ts";

/**
 * Base of everything with parameters. A field that holds a Parameter, a Module, or an array of Modules is found by
 * itself; its name in a checkpoint is the field's in snake_case (`inProj` -> `in_proj`), joined by dots, except that a
 * name which begins with a capital is kept (`A_log`, `D`).
 */
export abstract class Module {
  /** All parameters by checkpoint name, in the order of the fields. A parameter that two modules share comes once. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    collect(this, "", found, new Set());
    return found;
  }

  parameters(): Parameter[] {
    return [...this.namedParameters().values()];
  }

  /** Number of elements of all parameters. */
  get parameterCount(): number {
    return this.parameters().reduce((sum, { shape }) => sum + shape.reduce((product, axis) => product * axis, 1), 0);
  }

  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }
}

/** `inProj` -> `in_proj`, `normF` -> `norm_f`; `A_log`, `D` and `conv1d` stay. */
export function checkpointName(field: string): string {
  if (/^[A-Z]/.test(field)) return field;
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function collect(value: unknown, name: string, found: Map<string, Parameter>, seen: Set<Parameter>): void {
  if (value instanceof Parameter) {
    if (!seen.has(value)) found.set(name, value);
    seen.add(value);
  } else if (value instanceof Module || Array.isArray(value)) {
    for (const [field, member] of Object.entries(value))
      collect(member, name === "" ? checkpointName(field) : `${name}.${checkpointName(field)}`, found, seen);
  }
}
