// The table of a report: a row a model, the best of each column in bold.
import { formatScore } from "./captions.ts";
import { html } from "./markup.ts";
import type { Markup } from "./markup.ts";
import { bytes, count, length, seconds } from "./numbers.ts";
import type { ModelReport, Report } from "./schema.ts";
import { at, byBatch, byLength, lastShared, qualityMeasure, scores } from "./series.ts";
import type { Measured } from "./series.ts";
import { stylesOf } from "./style.ts";

interface Column {
  readonly heading: string;
  readonly values: ReadonlyMap<string, number>;
  readonly format: (value: number) => string;
  /** Which value is bold; none where more is neither better nor worse. */
  readonly best?: "highest" | "lowest";
}

export function modelTable(report: Report): Markup {
  const styles = stylesOf(report);
  const columns = columnsOf(report).filter(({ values }) => values.size > 0);
  const rows = report.models.map((model) => {
    const colour = styles.get(model.name)?.colour ?? "#000000";
    const swatch = html`<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">
      <circle cx="5" cy="5" r="5" fill="${colour}" />
    </svg>`;
    const state = model.status === "done" ? "" : ` (${model.status})`;
    const name = html`<th scope="row">${swatch} ${model.name}${state}<small>${model.description}</small></th>`;
    return html`<tr>
      ${name}${columns.map((column) => cell(column, model))}
    </tr> `;
  });
  const headings = columns.map(({ heading }) => html`<th scope="col">${heading}</th>`);
  return html`<div class="scroll wide" tabindex="0" role="region" aria-label="Table of models">
    <table>
      <thead>
        <tr>
          <th scope="col">Model</th>
          ${headings}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`;
}

function cell({ values, format, best }: Column, model: ModelReport): Markup {
  const value = values.get(model.name);
  if (value === undefined) return html`<td>–</td>`;
  const all = [...values.values()];
  const isBest =
    best !== undefined && new Set(all).size > 1 && value === (best === "highest" ? Math.max(...all) : Math.min(...all));
  return isBest ? html`<td><strong>${format(value)}</strong></td>` : html`<td>${format(value)}</td>`;
}

function columnsOf(report: Report): Column[] {
  return [
    { heading: "Parameters", values: ofModels(report, ({ parameters }) => parameters), format: count },
    ...qualityColumns(report),
    ...trainingColumns(report),
    ...speedColumns(report),
  ];
}

function ofModels(report: Report, pick: (model: ModelReport) => number | undefined): Map<string, number> {
  return new Map(
    report.models.flatMap((model) => {
      const value = pick(model);
      return value === undefined ? [] : [[model.name, value] as const];
    }),
  );
}

function qualityColumns(report: Report): Column[] {
  const by = qualityMeasure(report);
  if (by === undefined) return [];
  return scores(report, by).map(({ name, scores }) => ({
    heading: `${name}, ${by.label}`,
    values: new Map(scores.map((score) => [score.name, score.value])),
    format: (value) => formatScore(value, by),
    best: by.isHigherBetter ? "highest" : "lowest",
  }));
}

function trainingColumns(report: Report): Column[] {
  return [
    {
      heading: "Training, tokens/s",
      values: ofModels(report, ({ training }) => training?.tokensPerSecond),
      format: count,
      best: "highest",
    },
    {
      heading: "Training, peak memory",
      values: ofModels(report, ({ training }) => training?.peakMemoryBytes),
      format: bytes,
      best: "lowest",
    },
  ];
}

function speedColumns(report: Report): Column[] {
  const prefill = byLength(report, "prefill", ({ seconds }) => seconds);
  const decode = byLength(report, "decode", ({ tokensPerSecond }) => tokensPerSecond);
  const batch = byBatch(report, ({ tokensPerSecond }) => tokensPerSecond);
  const shared = (
    series: readonly Measured[],
    heading: (x: string) => string,
    column: Pick<Column, "format" | "best">,
  ): Column[] => {
    const x = lastShared(series);
    if (x === undefined) return [];
    const values = series.map(({ name, points }) => [name, at(points, x) ?? 0] as const);
    return [{ heading: heading(length(x)), values: new Map(values), ...column }];
  };
  return [
    ...shared(prefill, (x) => `Reading ${x} tokens`, { format: seconds, best: "lowest" }),
    {
      heading: "Longest prompt read",
      values: new Map(prefill.map(({ name, points }) => [name, points[points.length - 1].x])),
      format: length,
      best: "highest",
    },
    ...shared(decode, (x) => `Writing after ${x}, tokens/s`, { format: count, best: "highest" }),
    {
      heading: "Writing side by side, most tokens/s",
      values: new Map(batch.map(({ name, points }) => [name, Math.max(...points.map(({ y }) => y))])),
      format: count,
      best: "highest",
    },
  ];
}
