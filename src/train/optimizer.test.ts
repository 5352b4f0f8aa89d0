// AdamW against the formulas written out in float64: decay, clipping, bias correction, saving.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../test/support/backends.ts";
import { expectClose } from "../../test/support/compare.ts";
import type { Backend } from "../backends/backend.ts";
import { CheckpointError, ConfigError } from "../core/errors.ts";
import { createRandom } from "../core/random.ts";
import type { TensorReader } from "../io/index.ts";
import { encodeSafetensors, memorySource, openSafetensors } from "../io/index.ts";
import { Parameter } from "../tensor/parameter.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import { AdamW } from "./optimizer.ts";

const SIZES = { matrix: 6, bias: 3 };
type Name = keyof typeof SIZES;
const NAMES: Name[] = ["matrix", "bias"];

function parametersOn(backend: Backend, values: Record<Name, number[]>): Map<Name, Parameter> {
  const made = new Map<Name, Parameter>();
  for (const name of NAMES) {
    const parameter = new Parameter([SIZES[name]], { decays: name === "matrix" });
    parameter.assign(tensorFrom(backend, values[name], [SIZES[name]]));
    made.set(name, parameter);
  }
  return made;
}

function normals(seed: number): Record<Name, number[]> {
  const random = createRandom(seed);
  const draw = (size: number): number[] => Array.from({ length: size }, () => Math.fround(random.normal()));
  return { matrix: draw(SIZES.matrix), bias: draw(SIZES.bias) };
}

async function fileOf(optimizer: AdamW): Promise<TensorReader> {
  const bytes = await encodeSafetensors(optimizer.toTensors(), await optimizer.metadata());
  return openSafetensors(await memorySource({ file: bytes }).open("file"));
}

function open(device: string): Promise<Backend> {
  if (device === "reference") return Promise.resolve(reference);
  return device === "wasm" ? wasmBackend() : gpuBackend();
}

describe("AdamW", () => {
  it.each(["reference", "wasm", ...(hasGpu ? ["webgpu"] : [])])("follows the formulas: %s", async (device) => {
    const backend = await open(device);
    const parameters = parametersOn(backend, normals(0));
    const optimizer = new AdamW(parameters, { weightDecay: 0.2, clip: 0.5 });
    const expected = normals(0);
    const zero = (): Record<Name, number[]> => ({ matrix: Array(6).fill(0), bias: Array(3).fill(0) });
    const [m, v] = [zero(), zero()];
    for (let step = 1; step <= 4; step++) {
      const grads = normals(step);
      for (const name of NAMES) parameters.get(name)!.gradForAdding().write(Float64Array.from(grads[name]));
      const learningRate = 0.01 * step;
      const norm = Math.hypot(...grads.matrix, ...grads.bias);
      optimizer.step(learningRate);
      expect((await optimizer.report()).norm).toBeCloseTo(norm, 5);
      const scale = Math.min(1, 0.5 / (norm + 1e-6));
      for (const name of NAMES)
        for (let i = 0; i < SIZES[name]; i++) {
          const g = grads[name][i] * scale;
          m[name][i] = 0.9 * m[name][i] + 0.1 * g;
          v[name][i] = 0.95 * v[name][i] + 0.05 * g * g;
          if (name === "matrix") expected[name][i] *= 1 - learningRate * 0.2;
          const mean = m[name][i] / (1 - 0.9 ** step);
          expected[name][i] -= (learningRate * mean) / (Math.sqrt(v[name][i] / (1 - 0.95 ** step)) + 1e-8);
        }
      for (const name of NAMES)
        expect((await parameters.get(name)!.grad!.readNative()).every((g) => g === 0)).toBe(true);
    }
    for (const name of NAMES)
      expectClose(
        name,
        await parameters.get(name)!.tensor.readNative(),
        expected[name],
        device === "reference" ? 1e-12 : 1e-6,
      );
    expect(parameters.get("matrix")!.version).toBe(5);
    optimizer.dispose();
  });

  it.each(["wasm", ...(hasGpu ? ["webgpu"] : [])])("continues exactly from its file: %s", async (device) => {
    const backend = await open(device);
    const runs = [parametersOn(backend, normals(0)), parametersOn(backend, normals(0))];
    const straight = new AdamW(runs[0]);
    let halved = new AdamW(runs[1]);
    for (let step = 1; step <= 6; step++) {
      for (const [name, parameter] of [...runs[0], ...runs[1]])
        parameter.gradForAdding().write(Float64Array.from(normals(step)[name]));
      straight.step(0.1);
      halved.step(0.1);
      if (step === 3) {
        const next = new AdamW(runs[1]);
        await next.load(await fileOf(halved), "file");
        halved.dispose();
        halved = next;
      }
    }
    expect((await halved.report()).steps).toBe(6);
    for (const name of NAMES)
      expect(await runs[1].get(name)!.tensor.read()).toEqual(await runs[0].get(name)!.tensor.read());
  });

  it("leaves parameters alone that no gradient reached, and all of them when the norm is not finite", async () => {
    const parameters = parametersOn(reference, normals(0));
    const optimizer = new AdamW(parameters);
    const bias = parameters.get("bias")!;
    bias.gradForAdding().write(Float64Array.of(1, 2, Infinity));
    optimizer.step(0.1);
    expect(await optimizer.report()).toMatchObject({ norm: Infinity, isFinite: false, steps: 0 });
    expect(Array.from(bias.tensor.readNow())).toEqual(normals(0).bias);
    expect(Array.from(bias.grad!.readNow())).toEqual([0, 0, 0]);
    bias.gradForAdding().write(Float64Array.of(1, 2, 3));
    optimizer.step(0.1);
    expect(Array.from(parameters.get("matrix")!.tensor.readNow())).toEqual(normals(0).matrix);
    expect(Array.from(bias.tensor.readNow())).not.toEqual(normals(0).bias);
  });

  it.skipIf(!hasGpu)("keeps the loss scale in its file", async () => {
    const parameters = parametersOn(await gpuBackend(), normals(0));
    const optimizer = new AdamW(parameters, {}, { initial: 1024, growthSteps: 3 });
    const written = [1, 1, Infinity, 1];
    for (const value of written) {
      parameters
        .get("bias")!
        .gradForAdding()
        .write(Float64Array.of(value, 2, 3));
      optimizer.step(0.1);
    }
    const expected = { steps: 3, lossScale: 512, goodSteps: 1 };
    expect(await optimizer.report()).toMatchObject(expected);
    const next = new AdamW(parameters, {}, {});
    await next.load(await fileOf(optimizer), "file");
    expect(await next.report()).toMatchObject(expected);
  });

  it("refuses files of other models, and options out of range", async () => {
    const optimizer = new AdamW(parametersOn(reference, normals(0)));
    const other = new AdamW(new Map([["matrix", parametersOn(reference, normals(0)).get("matrix")!]]));
    await expect(optimizer.load(await fileOf(other), "file")).rejects.toThrow(
      /must hold 4 tensors for this model, got 2/,
    );
    const bytes = await encodeSafetensors(optimizer.toTensors(), {});
    const withoutStep = await openSafetensors(await memorySource({ file: bytes }).open("file"));
    await expect(optimizer.load(withoutStep, "file")).rejects.toThrow(CheckpointError);
    for (const options of [{ weightDecay: -1 }, { beta1: 1 }, { beta2: Number.NaN }, { eps: 0 }, { clip: 0 }])
      expect(() => new AdamW(new Map(), options)).toThrow(ConfigError);
  });
});
