// Reports of all kinds, drawn and written. resvg parses XML strictly, so what it draws is valid.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { minimalReport, sampleReport } from "../../test/support/sample-report.ts";
import { DataError } from "../core/errors.ts";
import { spread } from "./axes.ts";
import { drawCharts } from "./charts.ts";
import { findings } from "./findings.ts";
import { renderPage } from "./html.ts";
import { parseReport } from "./parse.ts";
import { toPng } from "./png-node.ts";
import type { Report, SpeedReport } from "./schema.ts";
import { stylesOf } from "./style.ts";
import { summariseSweep } from "./sweep.ts";
import { writeReport } from "./write-node.ts";

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** A report in which each model has one measurement of one kind, or nothing. */
function sparseReport(): Report {
  const bare = { architecture: "mamba", description: "Bare.", parameters: 1000, config: {}, recipe: {} };
  return {
    ...minimalReport(),
    models: [
      {
        ...bare,
        name: "one",
        status: "done",
        speed: { prefill: [{ length: 512, seconds: 1 }] },
        quality: { evaluations: [] },
      },
      {
        ...bare,
        name: "two",
        status: "pending",
        speed: { decode: [{ length: 512, stopped: "out of memory" }] },
      },
    ],
  };
}

const REPORTS: readonly (readonly [string, Report])[] = [
  ["text", sampleReport("text")],
  ["task", sampleReport("task")],
  ["minimal", minimalReport()],
  ["sparse", sparseReport()],
  ["sweep alone", { ...minimalReport(), ...pick(sampleReport(), "sweep") }],
];

function pick<K extends keyof Report>(report: Report, key: K): Pick<Report, K> {
  return { [key]: report[key] } as Pick<Report, K>;
}

describe("charts", () => {
  it("draws those that have data, in the order of the page", () => {
    const ids = (report: Report): string[] => drawCharts(report).map(({ id }) => id);
    expect(ids(sampleReport("text"))).toEqual([
      "quality",
      "training-loss",
      "loss-by-position",
      "extrapolation",
      "prefill-per-token",
      "prefill",
      "prefill-memory",
      "decode",
      "decode-memory",
      "batch",
      "training-speed",
      "sweep-parameters",
      "sweep-flops",
    ]);
    expect(ids(sampleReport("task"))).toContain("training-accuracy");
    expect(ids(minimalReport())).toEqual([]);
    expect(ids(sparseReport())).toEqual(["prefill-per-token", "prefill"]);
  });

  it.each(REPORTS)("has no number that is none, and valid XML: %s", async (_, report) => {
    for (const { svg } of drawCharts(report)) {
      expect(svg).toMatch(/^<svg [^>]*viewBox="0 0 720 \d+"/);
      expect(svg).not.toMatch(/NaN|Infinity|undefined|null/);
      await expect(toPng(svg, 0.25)).resolves.toBeInstanceOf(Uint8Array);
    }
  });

  it("names models, units and lengths, and escapes names", () => {
    const charts = new Map(drawCharts(sampleReport("text")).map((chart) => [chart.id, chart]));
    const prefill = charts.get("prefill-per-token")?.svg;
    for (const text of [
      "mamba without convolution",
      "transformer",
      "PyTorch 2.9, flash attention",
      "out of memory",
      "10 µs",
    ])
      expect(prefill).toContain(text);
    expect(prefill).toMatch(/>2<tspan[^>]*>10<\/tspan>/);
    expect(charts.get("quality")?.svg).toContain("Moby Dick &amp; &lt;more");
    expect(charts.get("prefill-memory")?.svg).toContain("64 MiB");
    expect(charts.get("extrapolation")?.svg).toContain("trained to here");
    expect(charts.get("prefill-per-token")?.caption).toContain("mamba is faster than transformer from 1K tokens on");
    expect(charts.get("sweep-parameters")?.caption).toContain("transformer needs 1.8 times the parameters of mamba");
  });

  it("gives each model one look, and no two the same", () => {
    const report = sampleReport();
    const looks = [...stylesOf(report).values()].map(({ colour, dash }) => colour + dash);
    expect(new Set(looks).size).toBe(looks.length);
    const many = Array.from({ length: 14 }, (_, i) => ({ ...report.models[0], name: `variant ${i}` }));
    const styles = [...stylesOf({ ...report, models: many }).values()];
    expect(styles[0].colour).toBe("#0072b2");
    expect(new Set(styles.map(({ colour, symbol, dash }) => colour + symbol + dash)).size).toBeGreaterThan(12);
  });

  it("draws a loss that does not move, and one point", async () => {
    const [model] = sampleReport().models;
    const curve = [{ step: 1, tokens: 100, lossNats: 2 }];
    const training = { length: 8, batch: 1, steps: 1, tokens: 100, seconds: 1, tokensPerSecond: 100, curve };
    const report = { ...minimalReport(), models: [{ ...model, training }] };
    for (const { svg } of drawCharts(report)) expect(svg).not.toMatch(/NaN|Infinity/);
  });
});

describe("spread", () => {
  it("keeps labels apart, in order, inside, and still where they are apart already", () => {
    expect(spread([10, 50, 90], 10, 0, 100)).toEqual([10, 50, 90]);
    expect(spread([50, 50], 10, 0, 100)).toEqual([45, 55]);
    expect(spread([100, 99, 98], 10, 0, 100)).toEqual([100, 90, 80]);
    expect(spread([0, 0, 14], 10, 0, 100)).toEqual([0, 10, 20]);
  });
});

describe("toPng", () => {
  it("makes a PNG of twice the size, with text", async () => {
    const [chart] = drawCharts(sampleReport());
    const png = await toPng(chart.svg);
    const height = Number(/viewBox="0 0 720 (\d+)"/.exec(chart.svg)?.[1]);
    const view = new DataView(png.buffer, png.byteOffset);
    expect([...png.subarray(0, 8)]).toEqual(PNG_SIGNATURE);
    expect([view.getUint32(16), view.getUint32(20)]).toEqual([1440, 2 * height]);
    const text = (letters: string): string =>
      `<svg xmlns="http://www.w3.org/2000/svg" width="100" height="30" font-family="Inter, serif"><text y="20">${letters}</text></svg>`;
    const empty = await toPng(text(""));
    for (const letters of ["loss", "Ł", "µ", "Ω", "Ж"]) expect(await toPng(text(letters))).not.toEqual(empty);
  });
});

describe("the page", () => {
  it.each(REPORTS)("loads and runs nothing: %s", (_, report) => {
    const page = renderPage(report);
    expect(page).toMatch(/^<!doctype html>\s*<html lang="en">/);
    expect(page).not.toMatch(/<script|<link|<img|<iframe|@import|\b(?:src|href)=/i);
    expect(page).not.toMatch(/url\((?!#)/);
    expect(page.replaceAll("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:/);
    expect(page).not.toMatch(/NaN|undefined|\[object/);
    expect(page).toContain(report.command);
    expect(page.split("<svg").length).toBeGreaterThanOrEqual(drawCharts(report).length + 1);
  });

  it("escapes what it is given", () => {
    const page = renderPage({ ...minimalReport(), title: `<b>"a" & 'b'</b>`, command: "<script>alert(1)</script>" });
    expect(page).toContain("<title>&lt;b&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/b&gt;</title>");
    expect(page).toContain("<code>&lt;script&gt;alert(1)&lt;/script&gt;</code>");
  });

  it("tells what failed and why, what stopped, and the settings", () => {
    const page = renderPage(sampleReport());
    for (const text of [
      "The loss was no longer finite",
      "The time was used up.",
      "1.4 GiB asked",
      "weightDecay",
      "EPYC",
    ])
      expect(page).toContain(text);
  });

  it("lists trials of learning rates, and which was chosen", () => {
    const page = renderPage(sampleReport());
    expect(page).toContain("<strong>0.003: 1.720</strong>");
    expect(page).toContain("0.0015: 1.820<br />");
    expect(page).toContain("0.3: diverged<br />");
    expect(page).toMatch(/Rate: held-out loss, nats per token<\/th>/);
    expect(renderPage(minimalReport())).not.toContain("Trials");
    const [{ tuning: _, ...model }] = sampleReport().models;
    const stopped = "train: the loss is too large at step 3.";
    const trial = { learningRate: 1, what: "loss", stopped };
    const none = renderPage({ ...minimalReport(), models: [{ ...model, tuning: [trial] }] });
    expect(none).toMatch(/1: diverged<br \/>\s*<\/td>\s*<td>none<\/td>/);
  });
});

describe("findings", () => {
  it("answers in sentences", () => {
    const text = findings(sampleReport()).join("\n");
    expect(text).toContain("After 20M tokens of training, on stories mamba is best: 1.616 bits per byte;");
    expect(text).toContain("Reading a prompt, mamba is faster than transformer from 1K tokens on");
    expect(text).toContain("After 32K tokens of context, mamba writes 3.23K tokens/s and transformer 902: 3.6 times");
    expect(text).toContain("Not compared: mamba-moe failed and gru was skipped.");
    expect(findings(sampleReport("task")).join("\n")).toContain("on fresh sequences mamba is best: 100 % accuracy");
    expect(findings(minimalReport())).toEqual(["No model has finished."]);
  });

  it("says who is faster when the first model is not", () => {
    const [mamba, transformer] = sampleReport().models;
    const speed = (seconds: number): SpeedReport => ({ prefill: [{ length: 1024, seconds }] });
    const models = [
      { ...mamba, speed: speed(3) },
      { ...transformer, speed: speed(2) },
    ];
    expect(findings({ ...minimalReport(), models }).join("\n")).toContain(
      "Reading a prompt, transformer is faster than mamba at every length that both read: at 1K tokens 2 s instead of 3 s, 1.5 times as fast.",
    );
  });
});

describe("summariseSweep", () => {
  it("fits and compares", () => {
    const { points } = sampleReport().sweep ?? { points: [] };
    const sweep = summariseSweep(points, "20 tokens a parameter");
    expect(sweep.fits).toHaveLength(4);
    const ratios = sweep.ratios.filter(({ against }) => against === "parameters");
    expect(ratios.length).toBeGreaterThan(1);
    expect(ratios.map(({ lossNats }) => lossNats)).toEqual(
      ratios.map(({ lossNats }) => lossNats).toSorted((a, b) => b - a),
    );
    for (const ratio of ratios) {
      expect(ratio).toMatchObject({ of: "transformer", to: "mamba" });
      // 1.8 by the law that made the points; lines between points bend it by a few per cent.
      expect(Math.abs(ratio.ratio / 1.8 - 1)).toBeLessThan(0.05);
    }
    expect(findings({ ...minimalReport(), sweep }).join("\n")).toMatch(
      /For a loss of [0-9.]+ transformer needs 1.[789] times the parameters of mamba, for [0-9.]+ 1.[789] times/,
    );
    expect(() => renderPage({ ...minimalReport(), sweep })).not.toThrow();
    expect(summariseSweep(points.slice(0, 1))).toMatchObject({ fits: [], ratios: [] });
  });
});

describe("writeReport", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "mamba-report-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("writes numbers, charts and page, and nothing else", async () => {
    const report = sampleReport();
    const target = join(folder, "deep", "report");
    const written = await writeReport(report, target);
    const found = (await readdir(target, { recursive: true })).map((path) => path.replaceAll("\\", "/"));
    expect(found.filter((path) => path !== "charts").toSorted()).toEqual(written.toSorted());
    expect(parseReport(await readFile(join(target, "report.json"), "utf8"), "report.json")).toEqual(report);
    expect(await readFile(join(target, "index.html"), "utf8")).toContain(report.title);
  });

  it("refuses a report that breaks its form, before it writes", async () => {
    const report = { ...minimalReport(), title: 7 } as unknown as Report;
    const target = join(folder, "wrong");
    await expect(writeReport(report, target)).rejects.toThrow(DataError);
    await expect(readdir(target)).rejects.toThrow("ENOENT");
  });
});
