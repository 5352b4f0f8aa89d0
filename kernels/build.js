// Compiles the AssemblyScript kernels to kernels/build/{simd,relaxed}.wasm, unless they are newer than their sources.
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const here = new URL("./", import.meta.url);
const path = (name) => fileURLToPath(new URL(name, here));
const sources = readdirSync(path("assembly"), { recursive: true }).filter((name) => name.endsWith(".ts"));
const modified = (name) => statSync(path(name)).mtimeMs;
const newest = Math.max(modified("build.js"), ...sources.map((name) => modified(`assembly/${name}`)));

/** Pages of 64 KiB: 4 GiB, all that 32-bit addresses reach. The memory is imported, shared, and grows on demand. */
const MAXIMUM_PAGES = 65536;

for (const build of ["simd", "relaxed"]) {
  const outFile = `build/${build}.wasm`;
  if (existsSync(path(outFile)) && modified(outFile) > newest) continue;
  mkdirSync(path("build"), { recursive: true });
  const { error, stderr } = await asc.main([
    "assembly/index.ts",
    ...["--baseDir", path("."), "--outFile", outFile],
    ...["-O3", "--noAssert", "--runtime", "stub", "--uncheckedBehavior", "always"],
    ...[
      "--importMemory",
      "--sharedMemory",
      "--memoryBase",
      "65536",
      "--maximumMemory",
      String(MAXIMUM_PAGES),
      "--exportTable",
    ],
    ...["--enable", "simd", "--enable", "threads", "--enable", "relaxed-simd"],
    ...["--use", `RELAXED=${build === "relaxed" ? 1 : 0}`],
  ]);
  if (error) {
    console.error(`kernels/build.js: ${outFile} did not compile\n${stderr.toString()}`);
    process.exit(1);
  }
}
