// Replacing folders: every state that a kill can leave behind is put right, and a failure changes nothing.
import * as fs from "node:fs/promises";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ConfigError, DataError } from "../core/errors.ts";
import { exists, recoverFolder, replaceFolder } from "./replace-folder-node.ts";

let root = "";
let folder = "";

beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "mamba-replace-"));
  folder = path.join(root, "last");
});
afterEach(() => fs.rm(root, { recursive: true }));

async function put(name: string, text: string): Promise<void> {
  await fs.mkdir(path.join(root, name), { recursive: true });
  await fs.writeFile(path.join(root, name, "a"), text);
}

const fillWith = (text: string) => (to: string) => fs.writeFile(path.join(to, "a"), text);
const content = (): Promise<string> => fs.readFile(path.join(folder, "a"), "utf8");

it("makes a folder, then replaces it, and leaves nothing beside it", async () => {
  await replaceFolder(folder, fillWith("one"));
  expect(await content()).toBe("one");
  await fs.writeFile(path.join(folder, "only-in-the-old"), "");
  await replaceFolder(folder, fillWith("two"));
  expect(await content()).toBe("two");
  expect(await exists(path.join(folder, "only-in-the-old"))).toBe(false);
  expect(await fs.readdir(root)).toEqual(["last"]);
});

it("keeps the old folder when filling fails", async () => {
  await replaceFolder(folder, fillWith("one"));
  const half = async (to: string): Promise<void> => {
    await fillWith("half")(to);
    throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  };
  await expect(replaceFolder(folder, half)).rejects.toThrow(DataError);
  await expect(replaceFolder(folder, half)).rejects.toThrow("no space left");
  await expect(replaceFolder(folder, () => Promise.reject(new ConfigError("mine")))).rejects.toThrow(ConfigError);
  expect(await content()).toBe("one");
  expect(await fs.readdir(root)).toEqual(["last"]);
});

it.each([
  ["while the first was filled", { "last.new": "half" }, undefined],
  ["while a later one was filled", { last: "old", "last.new": "half" }, "old"],
  ["between the two renames", { "last.old": "old", "last.new": "new" }, "new"],
  ["while the old one was removed", { last: "new", "last.old": "half" }, "new"],
  ["while the old one was put back", { "last.old": "old" }, "old"],
])("recovers from a kill %s", async (_, left, expected) => {
  for (const [name, text] of Object.entries(left)) await put(name, text);
  await recoverFolder(folder);
  expect(await fs.readdir(root)).toEqual(expected === undefined ? [] : ["last"]);
  expect(await content().catch(() => undefined)).toBe(expected);
});
