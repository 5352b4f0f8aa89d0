// All synthetic tasks, by name.
import { ConfigError } from "../../core/errors.ts";
import { inductionHeads } from "./induction-heads.ts";
import { modularArithmetic } from "./modular-arithmetic.ts";
import { mqar } from "./mqar.ts";
import { parity } from "./parity.ts";
import { selectiveCopying } from "./selective-copying.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";

/** In the order of a list for people. */
export const TASKS: readonly TaskKind[] = [selectiveCopying, inductionHeads, mqar, parity, modularArithmetic];

/**
 * A task by its name: selective-copying, induction-heads, mqar, parity or modular-arithmetic.
 * @throws ConfigError for an unknown name, an option that the task does not take, or a value out of range
 */
export function createTask(name: string, options: TaskOptions = {}): SyntheticTask {
  const kind = TASKS.find((one) => one.name === name);
  if (!kind)
    throw new ConfigError(
      `createTask: task must be one of ${TASKS.map((one) => one.name).join(", ")}, got ${JSON.stringify(name)}.`,
    );
  for (const [option, value] of Object.entries(options))
    if (value !== undefined && !kind.takes.some((taken) => taken === option))
      throw new ConfigError(`${name}: there is no option ${option}. It takes ${kind.takes.join(" and ")}.`);
  return kind.create(options);
}
