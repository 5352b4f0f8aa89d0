// What a comparison comes to, on the screen: a row a model, the sentences that answer, and where the report lies.
import { join } from "node:path";
import type { CompareResult } from "../../../compare/options.ts";
import { findings } from "../../../report/findings.ts";
import type { ModelReport } from "../../../report/schema.ts";
import { formatBytes, formatCount, formatSeconds, formatTable, significant } from "../../format.ts";

export interface Summary {
  /** Paths. */
  readonly report: string;
  readonly page: string;
  readonly stopped: boolean;
  readonly title: string;
  readonly models: readonly {
    readonly name: string;
    readonly status: ModelReport["status"];
    readonly reason: string | null;
    readonly parameters: number;
    /** Mean over the held-out texts. */
    readonly bitsPerByte: number | null;
    readonly accuracy: number | null;
    readonly trainingTokensPerSecond: number | null;
  }[];
  readonly findings: readonly string[];
}

export function summarise({ report, stopped }: CompareResult, out: string): Summary {
  return {
    report: join(out, "report.json"),
    page: join(out, "index.html"),
    stopped,
    title: report.title,
    models: report.models.map(({ name, status, reason, parameters, training, quality }) => ({
      name,
      status,
      reason: reason ?? null,
      parameters,
      bitsPerByte: mean(quality?.evaluations.map((one) => one.bitsPerByte)),
      accuracy: mean(quality?.evaluations.map((one) => one.accuracy)),
      trainingTokensPerSecond: training?.tokensPerSecond ?? null,
    })),
    findings: findings(report),
  };
}

/** For people. */
export function describe({ report }: CompareResult, summary: Summary, resume: string): string {
  const rows = report.models.map((model) => rowOf(model));
  const head = ["model", "parameters", "held out", "training", "tokens/s", "peak memory", ""];
  const table = rows.length > 0 ? `${formatTable([head, ...rows], [1, 3, 4, 5])}\n\n` : "";
  const sentences = summary.findings.map((sentence) => `- ${sentence}\n`).join("");
  const end = summary.stopped ? `Stopped; go on with: ${resume}` : `The report: ${summary.page}`;
  return `${table}${sentences}\n${end}\n`;
}

function rowOf({ name, status, reason, parameters, training, quality }: ModelReport): string[] {
  const bits = mean(quality?.evaluations.map((one) => one.bitsPerByte));
  const accuracy = mean(quality?.evaluations.map((one) => one.accuracy));
  const score =
    bits === null ? (accuracy === null ? "" : `${(100 * accuracy).toFixed(1)} %`) : `${bits.toFixed(3)} bits/byte`;
  return [
    name,
    parameters > 0 ? formatCount(parameters) : "",
    score,
    training ? formatSeconds(training.seconds) : "",
    training ? significant(training.tokensPerSecond) : "",
    training?.peakMemoryBytes === undefined ? "" : formatBytes(training.peakMemoryBytes),
    status === "done" ? "" : `${status}${reason === undefined ? "" : `: ${reason}`}`,
  ];
}

function mean(values: readonly (number | undefined)[] | undefined): number | null {
  const known = (values ?? []).filter((value) => value !== undefined);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}
