// Makes and destroys WebGPU devices, each with some work, and reports what is left. Run by many-devices.test.ts as
// many-devices.ts COUNT [leave] -- with "leave" the last device is not disposed of, and the process just ends.
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { add } from "../../src/ops/add/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";

const count = Number(process.argv[2]);
const leaves = process.argv[3] === "leave";

async function useOne(i: number): Promise<WebGpuBackend> {
  const backend = await WebGpuBackend.create();
  const y = scope(() => {
    const a = tensorFrom(backend, new Float32Array(1 << 18).fill(i), [1 << 18]);
    return add({ a, b: a }, {}).y;
  });
  const [first] = await y.read();
  if (first !== 2 * i) throw new Error(`device ${i}: 2 · ${i} is ${first}.`);
  y.dispose();
  if (backend.memory().liveBytes !== 0) throw new Error(`device ${i}: ${backend.memory().liveBytes} bytes live on.`);
  return backend;
}

const residentMebibytes: number[] = [];
const started = performance.now();
for (let i = 0; i < count; i++) {
  const backend = await useOne(i);
  if (!(leaves && i === count - 1)) backend.dispose();
  residentMebibytes.push(Math.round(process.memoryUsage.rss() / 2 ** 20));
}
console.log(JSON.stringify({ residentMebibytes, seconds: (performance.now() - started) / 1000 }));
