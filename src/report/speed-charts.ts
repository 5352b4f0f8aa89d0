// Charts of time and memory: reading a prompt, writing, many sequences, training.
import * as captions from "./captions.ts";
import { byteAxis, lengthAxis, lines, rateAxis, secondAxis } from "./chart.ts";
import type { Chart } from "./chart.ts";
import { bytes, count, seconds, short } from "./numbers.ts";
import type { Report } from "./schema.ts";
import { byBatch, byLength } from "./series.ts";

export function prefillPerToken(report: Report): Chart | undefined {
  const all = byLength(report, "prefill", ({ length, seconds }) =>
    seconds === undefined ? undefined : seconds / length,
  );
  return lines(report, {
    id: "prefill-per-token",
    title: "Reading a prompt: time per token",
    subtitle: "both axes logarithmic; lower is better; a flat line is linear time, a rising one quadratic",
    x: lengthAxis("length of the prompt, tokens"),
    y: secondAxis("time per token"),
    measured: all,
    reference: "prefill",
    referenceValue: (x, y) => y / x,
    caption: () => captions.crossoverCaption(all),
    unit: "length",
  });
}

export function prefill(report: Report): Chart | undefined {
  const all = byLength(report, "prefill", ({ seconds }) => seconds);
  return lines(report, {
    id: "prefill",
    title: "Reading a prompt: whole time",
    subtitle: "both axes logarithmic; lower is better",
    x: lengthAxis("length of the prompt, tokens"),
    y: secondAxis("time"),
    measured: all,
    reference: "prefill",
    caption: () => captions.contrastCaption(all, (x) => `At ${x} tokens`, seconds, false),
    unit: "length",
  });
}

export function memory(report: Report): Chart | undefined {
  const all = byLength(report, "prefill", ({ memoryBytes }) => memoryBytes || undefined);
  return lines(report, {
    id: "prefill-memory",
    title: "Reading a prompt: memory",
    subtitle: "memory of the device above the weights; both axes logarithmic; lower is better",
    x: lengthAxis("length of the prompt, tokens"),
    y: byteAxis("memory"),
    measured: all,
    reference: "memory",
    caption: () => captions.contrastCaption(all, (x) => `At ${x} tokens`, bytes, false),
    unit: "length",
  });
}

export function decode(report: Report): Chart | undefined {
  const all = byLength(report, "decode", (point) => point.tokensPerSecond ?? (point.seconds && 1 / point.seconds));
  return lines(report, {
    id: "decode",
    title: "Writing one token after another",
    subtitle: "tokens per second, one sequence; higher is better; a flat line does not slow down",
    x: lengthAxis("tokens of context"),
    y: rateAxis("tokens per second"),
    measured: all,
    reference: "decode",
    caption: () => captions.keptCaption(all),
    unit: "context",
  });
}

export function decodeMemory(report: Report): Chart | undefined {
  const all = byLength(report, "decode", ({ memoryBytes }) => memoryBytes || undefined);
  return lines(report, {
    id: "decode-memory",
    title: "Writing: memory of the context",
    subtitle: "states or caches of one sequence; both axes logarithmic; lower is better",
    x: lengthAxis("tokens of context"),
    y: byteAxis("memory"),
    measured: all,
    caption: () => captions.contrastCaption(all, (x) => `After ${x} tokens`, bytes, false),
    unit: "context",
  });
}

export function batch(report: Report): Chart | undefined {
  const all = byBatch(report, ({ tokensPerSecond }) => tokensPerSecond);
  return lines(report, {
    id: "batch",
    title: "Writing many sequences side by side",
    subtitle: "tokens per second of all together; both axes logarithmic; higher is better",
    x: { label: "sequences", scale: "log2", format: (value) => short(value) },
    y: rateAxis("tokens per second"),
    measured: all,
    reference: "batch",
    caption: () =>
      captions.contrastCaption(
        all,
        (x) => `With ${x} sequences`,
        (value) => `${count(value)} tokens/s`,
        true,
      ),
    unit: "batch",
  });
}

export function trainingSpeed(report: Report): Chart | undefined {
  const all = byLength(report, "training", ({ tokensPerSecond }) => tokensPerSecond);
  return lines(report, {
    id: "training-speed",
    title: "Speed of training",
    subtitle: "tokens per second, forward, backward and update; both axes logarithmic; higher is better",
    x: lengthAxis("length of the sequences, tokens"),
    y: rateAxis("tokens per second"),
    measured: all,
    reference: "training",
    caption: () =>
      captions.contrastCaption(
        all,
        (x) => `At ${x} tokens`,
        (value) => `${count(value)} tokens/s`,
        true,
      ),
    unit: "length",
  });
}
