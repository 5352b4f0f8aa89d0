// Where the model that comes with this package lies.
import { fileURLToPath } from "node:url";

/** The folder that Mamba.load opens when no model is named. */
export function defaultModelFolder(): string {
  return fileURLToPath(new URL("../assets/default-model", import.meta.url));
}
