import { expect, it } from "vitest";
import { DataError } from "../core/errors.ts";
import { minimalReport, sampleReport } from "../../test/support/sample-report.ts";
import { checkReport, parseReport } from "./parse.ts";

it("gives back what was written", () => {
  for (const report of [sampleReport("text"), sampleReport("task"), minimalReport()])
    expect(parseReport(JSON.stringify(report), "report.json")).toEqual(report);
});

it("leaves out fields that it does not know", () => {
  expect(parseReport(JSON.stringify({ ...minimalReport(), later: 1 }), "report.json")).toEqual(minimalReport());
});

it.each([
  ["{", "report.json: not valid JSON"],
  ["[]", "report.json: must be an object, got []."],
  [JSON.stringify({ ...minimalReport(), version: 9 }), "version must be 1 or less, got 9. A newer mamba.ts wrote this"],
  [JSON.stringify({ ...minimalReport(), version: "1" }), 'version: must be one of 1, got "1".'],
  [JSON.stringify({ ...minimalReport(), title: undefined }), "report.json: title: must be a text, got nothing."],
  [JSON.stringify({ ...minimalReport(), models: {} }), "report.json: models: must be a list, got {}."],
  [JSON.stringify({ ...minimalReport(), recipe: { a: [1] } }), "recipe.a: must be a finite number, got [1]."],
  [
    JSON.stringify({ ...minimalReport(), budget: { minutes: -1 } }),
    "report.json: budget.minutes: must be a number above 0, got -1.",
  ],
])("refuses %s", (json, message) => {
  expect(() => parseReport(json, "report.json")).toThrow(DataError);
  expect(() => parseReport(json, "report.json")).toThrow(message);
});

it("says where in the models a number is missing", () => {
  const [first, ...rest] = sampleReport().models;
  const quality = { evaluations: [{ name: "stories", lossNats: Number.NaN }] };
  const report = { ...sampleReport(), models: [{ ...first, quality }, ...rest] };
  const place = "report.json: models[0].quality.evaluations[0].lossNats: must be a finite number, got";
  expect(() => checkReport(report, "report.json")).toThrow(`${place} NaN.`);
  expect(() => parseReport(JSON.stringify(report), "report.json")).toThrow(`${place} null.`);
});

it("refuses a trial of no learning rate", () => {
  const [first] = sampleReport().models;
  const report = { ...minimalReport(), models: [{ ...first, tuning: [{ learningRate: 0, what: "loss" }] }] };
  expect(() => checkReport(report, "report.json")).toThrow(
    "report.json: models[0].tuning[0].learningRate: must be a number above 0, got 0.",
  );
});

it("refuses two models of one name", () => {
  const [first] = sampleReport().models;
  const report = { ...sampleReport(), models: [first, first] };
  expect(() => checkReport(report, "report.json")).toThrow(
    'report.json: models[1].name: must be unique in the report, got "mamba". Give each model its own name.',
  );
});
