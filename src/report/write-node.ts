// Writes the folder of a report: report.json, charts as SVG and PNG, and the page.
import { join } from "node:path";
import { makeFolder, writeFileAtomic } from "../io/atomic.ts";
import { drawCharts } from "./charts.ts";
import { renderPage } from "./html.ts";
import { checkReport } from "./parse.ts";
import { toPng } from "./png-node.ts";
import type { Report } from "./schema.ts";

/**
 * Writes `folder`/report.json, charts/*.svg, charts/*.png and index.html, each file atomically: report.json first, so
 * that the numbers are safe before anything is drawn, and index.html last. Charts of an older report that this one
 * does not have stay. Returns the paths relative to the folder.
 * @throws DataError for a report that breaks its form, or what the system refuses.
 */
export async function writeReport(report: Report, folder: string): Promise<string[]> {
  await writeReportFile(report, folder);
  await makeFolder(join(folder, "charts"));
  const written = ["report.json"];
  const write = async (path: string, content: string | Uint8Array): Promise<void> => {
    await writeFileAtomic(join(folder, path), content);
    written.push(path);
  };
  const charts = drawCharts(report);
  for (const { id, svg } of charts) {
    await write(`charts/${id}.svg`, svg);
    await write(`charts/${id}.png`, await toPng(svg));
  }
  await write("index.html", renderPage(report, charts));
  return written;
}

/** Writes `folder`/report.json alone. Throws as {@link writeReport}. */
export async function writeReportFile(report: Report, folder: string): Promise<void> {
  const path = join(folder, "report.json");
  checkReport(report, path);
  await makeFolder(folder);
  await writeFileAtomic(path, `${JSON.stringify(report, null, 2)}\n`);
}
