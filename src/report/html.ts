// One page that holds everything: the answer, the table, the charts, the settings, what failed, how to repeat it. It
// loads nothing and runs nothing, so it can be kept, sent and printed.
import { drawCharts } from "./charts.ts";
import type { Chart } from "./charts.ts";
import { allStops, findings } from "./findings.ts";
import { html, raw } from "./markup.ts";
import type { Markup } from "./markup.ts";
import { bytes, count, sentenceList } from "./numbers.ts";
import { PAGE_STYLE } from "./page-style.ts";
import type { Report, Settings } from "./schema.ts";
import { modelTable } from "./table.ts";
import { tuningTable } from "./tuning.ts";

const NOTHING = raw("");

/** The page of a report. `charts`: drawn already, or drawn now. */
export function renderPage(report: Report, charts: readonly Chart[] = drawCharts(report)): string {
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="generator" content="${report.software}" />
        <title>${report.title}</title>
        <style>
          ${raw(PAGE_STYLE)}
        </style>
      </head>
      <body>
        <main>
          <header>
            <h1>${report.title}</h1>
            <p class="quiet">${introduction(report)}</p>
          </header>
          ${section(
            "The answer",
            html`<ul class="answer">
              ${findings(report).map((sentence) => html`<li>${sentence}</li> `)}
            </ul>`,
          )}
          ${
            report.models.length === 0
              ? NOTHING
              : section(
                  "All models",
                  html`${modelTable(report)}
                    <p class="quiet">Bold: the best of its column.</p>`,
                )
          }
          ${charts.length === 0 ? NOTHING : section("Charts", html`${charts.map(figure)}`)} ${stopSection(report)}
          ${failureSection(report)} ${section("Settings", settings(report))} ${notes(report)}
          ${section(
            "How to repeat it",
            html`<pre><code>${report.command}</code></pre>
              <p class="quiet">
                All numbers are in report.json beside this page, and the charts in the folder charts.
              </p>`,
          )}
        </main>
      </body>
    </html> `;
  return page.markup;
}

function introduction(report: Report): string {
  const { data, machine, created, software } = report;
  const what = data.kind === "task" ? `the task ${sentenceList(data.names)}` : sentenceList(data.names);
  const sentence = data.description === undefined ? "" : ` ${data.description}`;
  const device = machine.gpu ?? `${machine.processor} (${machine.cores} cores)`;
  return `Data: ${what}.${sentence} Measured on ${device} by ${software}, ${created.slice(0, 10)}.`;
}

function section(heading: string, content: Markup): Markup {
  return html`<section>
    <h2>${heading}</h2>
    ${content}
  </section>`;
}

function figure({ id, svg, caption }: Chart): Markup {
  return html`<figure id="${id}">
    <div class="scroll">${raw(svg)}</div>
    ${caption === "" ? NOTHING : html`<figcaption>${caption}</figcaption> `}
  </figure> `;
}

function stopSection(report: Report): Markup {
  const stops = allStops(report);
  if (stops.length === 0) return NOTHING;
  const rows = stops.map(
    ({ model, what, at, reason }) =>
      html`<tr>
        <th scope="row">${model}</th>
        <td>${what}</td>
        <td>${at}</td>
        <td>${reason}</td>
      </tr> `,
  );
  return section(
    "What could not be measured",
    html`<div class="scroll">
      <table class="texts">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">What</th>
            <th scope="col">From</th>
            <th scope="col">Why</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>`,
  );
}

function failureSection(report: Report): Markup {
  const rest = report.models.filter(({ status }) => status === "failed" || status === "skipped");
  if (rest.length === 0) return NOTHING;
  const items = rest.map(
    ({ name, status, reason }) =>
      html`<li><strong>${name}</strong> ${status}: ${reason ?? "no reason was told."}</li> `,
  );
  return section(
    "What failed",
    html`<ul>
      ${items}
    </ul>`,
  );
}

function settings(report: Report): Markup {
  const { data, budget, machine } = report;
  const groups: [string, Settings][] = [
    ["Budget of each model", amounts(budget.parameters, budget.tokens, budget.minutes)],
    ["Training, for all models", report.recipe],
    [
      "Data",
      defined({
        kind: data.kind,
        names: data.names.join(", "),
        tokenizer: data.tokenizer,
        vocabulary: data.vocabulary,
        tokens: count(data.tokens),
        bytes: data.bytes === undefined ? undefined : bytes(data.bytes),
        "held out": data.heldOut.map(({ name, tokens }) => `${name} (${count(tokens)} tokens)`).join(", ") || undefined,
      }),
    ],
    [
      "Machine",
      defined({
        processor: `${machine.processor}, ${machine.cores} cores`,
        memory: machine.memoryBytes === undefined ? undefined : bytes(machine.memoryBytes),
        device: machine.device,
        gpu: machine.gpu,
        "gpu memory": machine.gpuMemoryBytes === undefined ? undefined : bytes(machine.gpuMemoryBytes),
        node: machine.node,
        platform: machine.platform,
      }),
    ],
  ];
  return html`<div class="settings">
      ${groups.filter(([, fields]) => Object.keys(fields).length > 0).map(([name, fields]) => settingsList(name, fields))}
    </div>
    ${modelSettings(report)} ${tuningTable(report)}`;
}

/** A row a model, a column a setting. */
function modelSettings(report: Report): Markup {
  const rows = report.models.map(({ name, config, recipe }) => ({ name, fields: { ...config, ...recipe } }));
  const keys = [...new Set(rows.flatMap(({ fields }) => Object.keys(fields)))];
  if (keys.length === 0) return NOTHING;
  const body = rows.map(
    ({ name, fields }) =>
      html`<tr>
        <th scope="row">${name}</th>
        ${keys.map((key) => html`<td>${settingText(fields[key])}</td>`)}
      </tr>`,
  );
  return html`<h3>Each model</h3>
    <div class="scroll" tabindex="0" role="region" aria-label="Settings of each model">
      <table>
        <thead>
          <tr>
            <th scope="col">Model</th>
            ${keys.map((key) => html`<th scope="col">${key}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${body}
        </tbody>
      </table>
    </div>`;
}

function settingText(value: Settings[string] | undefined): string {
  if (value === undefined) return "–";
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

function settingsList(name: string, fields: Settings): Markup {
  const rows = Object.entries(fields).map(
    ([key, value]) =>
      html`<div>
        <dt>${key}</dt>
        <dd>${settingText(value)}</dd>
      </div> `,
  );
  return html`<section>
    <h3>${name}</h3>
    <dl>${rows}</dl>
  </section> `;
}

function amounts(parameters?: number, tokens?: number, minutes?: number): Settings {
  return defined({
    parameters: parameters === undefined ? undefined : count(parameters),
    tokens: tokens === undefined ? undefined : count(tokens),
    minutes,
  });
}

function defined(fields: Readonly<Record<string, string | number | boolean | undefined>>): Settings {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Settings;
}

function notes(report: Report): Markup {
  const sources = (report.references ?? []).map(({ name, source }) => `${name}: measured elsewhere, ${source}.`);
  const all = [...(report.notes ?? []), ...sources];
  return all.length === 0
    ? NOTHING
    : section(
        "Notes",
        html`<ul>
          ${all.map((note) => html`<li>${note}</li> `)}
        </ul>`,
      );
}
