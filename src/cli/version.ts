// The version of this package, from its package.json.
import { readFileSync } from "node:fs";

/** For example `0.1.0`. */
export function readVersion(): string {
  const json = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(json) as { version: string }).version;
}
