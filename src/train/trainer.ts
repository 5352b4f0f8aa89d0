// train: the loop of a run. Batches in, weights changed in place; checkpoints, metrics and progress on the way.
import type { ModelState } from "../nn/language-model.ts";
import type { TrainOptions, TrainResult } from "./options.ts";
import { checkTrainOptions } from "./options.ts";
import { Run } from "./run.ts";

/**
 * Trains a model, in place, until `steps` updates are made or the signal asks to stop.
 *
 * With outputDir, `last/` (every saveEvery steps, at the end, and on the signal) and `best/` (lowest evaluation loss) are
 * checkpoints that load like any other, replaced as a whole; metrics.jsonl grows beside them. A run that is resumed from
 * `last/` goes on bit for bit as if it had not stopped (same machine and number of threads; a device that computes in
 * float32, so not `reference`): weights, optimizer, learning rate, data position and carried state are all there.
 * On a GPU some steps are under way at once and nothing is waited for but the oldest one's loss; a loss that is not finite
 * is found when it is read, and the device itself leaves such a step out, so that it never reaches the weights.
 * Without outputDir everything stays in memory, in a browser too. Memory is constant, however long the data.
 * The parameters keep their gradients' memory until the model is disposed.
 * @throws ConfigError (an option, or a resumed run that began with other settings), UsageError (outputDir holds a run),
 *   DataError (loss or gradients are not finite; the disk refuses), CheckpointError (what is resumed is damaged)
 */
export async function train<S extends ModelState>(options: TrainOptions<S>): Promise<TrainResult> {
  checkTrainOptions(options);
  const run = await Run.open(options);
  try {
    while (!(await run.isDone())) await run.step();
    return run.result();
  } finally {
    run.dispose();
  }
}
