// One measurement of bench/load.ts, in a process of its own without tsx, whose memory would count: run by it, not by hand.
// node bench/load-child.js '{"model": FOLDER, "dtype": "f32", "threads": 2, "promptTokens": 512, "newTokens": 32}'
import { peakMemoryBytes } from "../dist/cli/memory.js";
import { Mamba } from "../dist/index.js";

const { model, dtype, threads, promptTokens, newTokens } = JSON.parse(process.argv[2]);
const startBytes = peakMemoryBytes();
const started = performance.now();
const mamba = await Mamba.load(model, { dtype, threads });
const loadMs = performance.now() - started;
const loadedBytes = peakMemoryBytes();
const weightBytes = mamba.backend.memory().liveBytes;
const prompt = Int32Array.from({ length: promptTokens }, (_, i) => (i * 7919) % mamba.config.vocabSize);
const { tokens } = await mamba.complete(prompt, { maxTokens: newTokens, temperature: 0, stopAtEndOfText: false });
console.log(
  JSON.stringify({
    loadMs,
    startBytes,
    loadedBytes,
    generatedBytes: peakMemoryBytes(),
    weightBytes,
    parameters: mamba.model.parameterCount,
    newTokens: tokens.length,
  }),
);
mamba.dispose();
