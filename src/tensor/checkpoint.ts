// checkpoint: a part of a computation that keeps its inputs only, and is computed again in the backward pass.
// Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
import { scope } from "./scope.ts";
import { currentTape, Tape, withoutTape } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * The result of `body`, whose intermediates are freed at once and made anew when gradients come back: memory for time, one
 * more forward pass. Gradients have the same bits as without it. While no tape records it is `body` in a scope.
 * @param inputs every tensor of outside, but parameters, that `body` reads and that may need a gradient. They, and all
 *   else that it reads, must stay as they are until the backward pass
 * @param body computes the same each time that it is called; what it returns are tensors that it made
 */
export function checkpoint<T extends object>(inputs: readonly Tensor[], body: () => T): T {
  const tape = currentTape();
  if (!tape) return scope(body);
  const result = withoutTape(() => scope(body));
  const outputs = tensorsIn(result);
  for (const output of outputs) output.requiresGrad = true;
  tape.add({
    outputs: Object.fromEntries(outputs.map((output, i) => [String(i), output])),
    backward: (walking) => backward(walking, inputs, outputs, body),
  });
  return result;
}

function backward(walking: Tape, inputs: readonly Tensor[], outputs: readonly Tensor[], body: () => object): void {
  // Made out here, for they outlive what is made again.
  for (const input of inputs) if (input.requiresGrad) walking.gradForAdding(input);
  const grads = outputs.map((output) => walking.takeGrad(output));
  scope(() => {
    const inner = new Tape(walking.parameters, { tape: walking, inputs });
    const again = tensorsIn(inner.record(body));
    for (const [i, grad] of grads.entries()) {
      if (grad && again[i].requiresGrad) inner.giveGrad(again[i], grad);
      else grad?.dispose();
    }
    inner.run();
  });
}

function tensorsIn(value: unknown): Tensor[] {
  if (typeof value !== "object" || value === null) return [];
  if ("base" in value && "storage" in value) return [value as Tensor];
  return Object.values(value).flatMap(tensorsIn);
}
