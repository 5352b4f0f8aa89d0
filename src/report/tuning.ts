// Learning rates that were found by trials: which were tried, how they scored, and which was chosen.
import { html, raw } from "./markup.ts";
import type { Markup } from "./markup.ts";
import { digits } from "./numbers.ts";
import type { Report, TuningTrial } from "./schema.ts";

/** The trial of the lowest score; none where all diverged. */
export function bestTrial(trials: readonly TuningTrial[]): TuningTrial | undefined {
  const scored = trials.filter(({ score }) => score !== undefined);
  return scored.length === 0 ? undefined : scored.reduce((a, b) => (b.score! < a.score! ? b : a));
}

/** `0.003: 2.61`, `0.3: diverged`. */
export function trialText({ learningRate, score }: TuningTrial): string {
  return `${learningRate}: ${score === undefined ? "diverged" : digits(score, 4)}`;
}

/** A row a model: its trials, the chosen one in bold. */
export function tuningTable(report: Report): Markup {
  const tuned = report.models.flatMap(({ name, tuning = [] }) => (tuning.length === 0 ? [] : [{ name, tuning }]));
  if (tuned.length === 0) return raw("");
  const rows = tuned.map(({ name, tuning }) => {
    const best = bestTrial(tuning);
    const texts = tuning.map((trial) => {
      const text = trialText(trial);
      return trial === best ? html`<strong>${text}</strong><br />` : html`${text}<br />`;
    });
    return html`<tr>
      <th scope="row">${name}</th>
      <td>${texts}</td>
      <td>${best?.learningRate ?? "none"}</td>
    </tr> `;
  });
  const whats = [...new Set(tuned.flatMap(({ tuning }) => tuning.map(({ what }) => what)))];
  return html`<h3>Trials of learning rates</h3>
    <div class="scroll" tabindex="0" role="region" aria-label="Trials of learning rates">
      <table class="texts">
        <thead>
          <tr>
            <th scope="col">Model</th>
            <th scope="col">Rate: ${whats.join(", ")}</th>
            <th scope="col">Chosen</th>
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>`;
}
