// What a person sees when something fails: one clear message, and the exit code.
import { CommanderError } from "commander";
import { MambaError, UsageError } from "../core/errors.ts";
import { messageOf } from "../io/text.ts";
import { log } from "./output.ts";

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

/** Prints the message and gives the exit code: 2 for wrong use, 1 for failure, 0 for --help and --version. */
export function reportError(thrown: unknown, commandName: string): number {
  if (thrown instanceof CommanderError) {
    if (thrown.exitCode === 0) return 0;
    log(`mamba: ${usageMessage(thrown)} See "${commandName} --help".`);
    return EXIT_USAGE;
  }
  if (thrown instanceof UsageError) {
    log(`mamba: ${thrown.message}`);
    return EXIT_USAGE;
  }
  if (thrown instanceof MambaError) {
    log(`mamba: ${thrown.message}`);
    return EXIT_FAILURE;
  }
  log(`mamba: unexpected error: ${messageOf(thrown)}`);
  if (process.env["MAMBA_DEBUG"] === "1" && thrown instanceof Error) log(thrown.stack ?? "");
  else log("This is a bug, please report it, with what MAMBA_DEBUG=1 shows.");
  return EXIT_FAILURE;
}

/** Commander's message as one sentence: "error: unknown option '--x'\n(Did you mean --y?)". */
function usageMessage({ code, message }: CommanderError): string {
  // "mamba help nonsense"
  if (code === "commander.help") return "there is no such command.";
  const [problem, hint] = message.replace(/^error: /, "").split("\n");
  return hint ? `${problem.replace(/\.$/, "")}. ${hint.replace(/[()]/g, "")}` : `${problem.replace(/\.$/, "")}.`;
}
