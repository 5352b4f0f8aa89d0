// Bundles bench/gpu/main.ts into one file: node bench/gpu/build.js [FILE, default bench/build/bench-gpu.mjs]
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const out = resolve(process.argv[2] ?? "bench/build/bench-gpu.mjs");
await build({
  configFile: false,
  logLevel: "error",
  root: fileURLToPath(new URL("../..", import.meta.url)),
  ssr: { noExternal: true, external: ["webgpu"] },
  build: {
    ssr: fileURLToPath(new URL("./main.ts", import.meta.url)),
    outDir: dirname(out),
    emptyOutDir: false,
    target: "node20",
    minify: false,
    rollupOptions: { output: { entryFileNames: basename(out), codeSplitting: false } },
  },
});
console.log(out);
