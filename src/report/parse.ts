// Reads report.json: every field is checked, so that what draws it need not.
import { DataError } from "../core/errors.ts";
import { amount, fail, list, number, oneOf, optional, positive, record, settings, share, text } from "./checks.ts";
import type { Check } from "./checks.ts";
import { REPORT_VERSION } from "./schema.ts";
import type * as Schema from "./schema.ts";

/**
 * Parses report.json. `where` names the file in errors.
 * @throws DataError: not JSON, another version, or a field that breaks its rule.
 */
export function parseReport(json: string, where: string): Schema.Report {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new DataError(
      `${where}: not valid JSON (${(cause as Error).message}). Give a report.json that \`mamba compare\` wrote.`,
      { cause },
    );
  }
  return checkReport(parsed, where);
}

/**
 * Checks a report that was built in memory or parsed.
 * @throws DataError with the place of the field, its rule and what came.
 */
export function checkReport(value: unknown, where: string): Schema.Report {
  const version = typeof value === "object" && value !== null ? (value as { version?: unknown }).version : undefined;
  if (typeof version === "number" && version > REPORT_VERSION)
    throw new DataError(
      `${where}: version must be ${REPORT_VERSION} or less, got ${version}. A newer mamba.ts wrote this report: update yours.`,
    );
  const report = checkFields(value, where);
  const names = report.models.map(({ name }) => name);
  const twice = names.findIndex((name, i) => names.indexOf(name) !== i);
  if (twice !== -1)
    fail(`${where}: models[${twice}].name`, "unique in the report", names[twice], "Give each model its own name.");
  return report;
}

function checkFields(value: unknown, where: string): Schema.Report {
  try {
    return report(value, "");
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${where}: ${error.message.replace(/^: /, "")}`, { cause: error });
  }
}

const machine = record<Schema.ReportMachine>({
  processor: text,
  cores: positive,
  memoryBytes: optional(amount),
  device: text,
  gpu: optional(text),
  gpuMemoryBytes: optional(amount),
  node: text,
  platform: optional(text),
});

const data = record<Schema.ReportData>({
  kind: oneOf("text", "task"),
  names: list(text),
  description: optional(text),
  tokenizer: optional(text),
  vocabulary: optional(positive),
  tokens: amount,
  bytes: optional(amount),
  heldOut: list(record<Schema.HeldOut>({ name: text, tokens: amount, bytes: optional(amount) })),
  chance: optional(share),
});

const tuning = list(
  record<Schema.TuningTrial>({
    learningRate: positive,
    score: optional(amount),
    what: text,
    stopped: optional(text),
  }),
);

const training = record<Schema.TrainingReport>({
  length: positive,
  batch: positive,
  steps: amount,
  tokens: amount,
  seconds: amount,
  tokensPerSecond: amount,
  peakMemoryBytes: optional(amount),
  curve: list(
    record<Schema.CurvePoint>({
      step: amount,
      tokens: amount,
      seconds: optional(amount),
      lossNats: optional(amount),
      evalLossNats: optional(amount),
      evalAccuracy: optional(share),
    }),
  ),
});

const quality = record<Schema.QualityReport>({
  evaluations: list(
    record<Schema.Evaluation>({
      name: text,
      tokens: optional(amount),
      lossNats: optional(amount),
      bitsPerByte: optional(amount),
      perplexity: optional(positive),
      accuracy: optional(share),
    }),
  ),
  lossByPosition: optional(list(record<Schema.PositionPoint>({ position: amount, lossNats: amount }))),
});

const extrapolation = record<Schema.ExtrapolationPoint>({
  length: positive,
  lossNats: optional(amount),
  accuracy: optional(share),
  stopped: optional(text),
});

const lengths = list(
  record<Schema.LengthPoint>({
    length: positive,
    seconds: optional(positive),
    tokensPerSecond: optional(positive),
    memoryBytes: optional(amount),
    stopped: optional(text),
  }),
);

const speed = record<Schema.SpeedReport>({
  prefill: optional(lengths),
  decode: optional(lengths),
  batch: optional(
    list(
      record<Schema.BatchPoint>({
        batch: positive,
        tokensPerSecond: optional(positive),
        memoryBytes: optional(amount),
        stopped: optional(text),
      }),
    ),
  ),
  training: optional(lengths),
});

const model = record<Schema.ModelReport>({
  name: text,
  architecture: text,
  description: text,
  parameters: amount,
  activeParameters: optional(amount),
  config: settings,
  recipe: settings,
  status: oneOf("done", "failed", "skipped", "pending"),
  reason: optional(text),
  tuning: optional(tuning),
  training: optional(training),
  quality: optional(quality),
  extrapolation: optional(list(extrapolation)),
  speed: optional(speed),
});

const axis = oneOf("parameters", "flops");

const sweep = record<Schema.SweepReport>({
  rule: optional(text),
  points: list(
    record<Schema.SweepPoint>({
      architecture: text,
      parameters: positive,
      tokens: positive,
      flops: positive,
      lossNats: positive,
      seconds: optional(amount),
    }),
  ),
  fits: list(
    record<Schema.SweepFit>({
      architecture: text,
      against: axis,
      floor: amount,
      scale: positive,
      exponent: number,
      error: amount,
    }),
  ),
  ratios: list(
    record<Schema.SweepRatio>({
      of: text,
      to: text,
      against: axis,
      lossNats: positive,
      ratio: positive,
    }),
  ),
});

const reference = record<Schema.ReferenceSeries>({
  name: text,
  source: text,
  chart: oneOf("prefill", "decode", "batch", "training", "memory"),
  points: list(record<Schema.ReferenceSeries["points"][number]>({ x: positive, y: positive })),
});

const report: Check<Schema.Report> = record<Schema.Report>({
  version: oneOf(REPORT_VERSION),
  title: text,
  created: text,
  command: text,
  software: text,
  machine,
  data,
  budget: record<Schema.ReportBudget>({
    parameters: optional(positive),
    tokens: optional(positive),
    minutes: optional(positive),
  }),
  recipe: settings,
  models: list(model),
  sweep: optional(sweep),
  references: optional(list(reference)),
  notes: optional(list(text)),
});
