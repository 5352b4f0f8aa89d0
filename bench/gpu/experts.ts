// Cases of the mixture of experts: its products beside dense ones of the same size, its router, and decoding.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { createRandom } from "../../src/core/random.ts";
import { expertMlp } from "../../src/ops/expert-mlp/index.ts";
import { savedBy } from "../../src/ops/expert-mlp/webgpu.ts";
import { linear } from "../../src/ops/linear/index.ts";
import { routeExperts } from "../../src/ops/route-experts/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor, fillZero, tensorFrom, zeros } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

interface Sizes {
  readonly tokens: number;
  readonly topK: number;
  readonly experts: number;
  readonly dModel: number;
  readonly dInner: number;
}

function normals(backend: WebGpuBackend, shape: readonly number[], dtype: "f32" | "f16", scale = 1): Tensor {
  const random = createRandom(1);
  const tensor = emptyTensor(backend, shape, dtype);
  tensor.write(Float32Array.from({ length: tensor.size }, () => scale * random.normal()));
  return tensor;
}

/** Choices fall on experts with shares that fall as 1 / e where skewed, else evenly. */
function inputsOf(backend: WebGpuBackend, { tokens, topK, experts, dModel, dInner }: Sizes, isSkewed: boolean) {
  const random = createRandom(2);
  const pick = (): number => (isSkewed ? Math.floor(experts ** random.uniform() - 1e-9) : random.integer(experts));
  const choices = Int32Array.from({ length: tokens * topK }, () => Math.min(pick(), experts - 1));
  return {
    x: normals(backend, [tokens, dModel], "f16"),
    gates: normals(backend, [tokens, topK], "f32"),
    choices: tensorFrom(backend, choices, [tokens, topK], "i32"),
    upGate: normals(backend, [experts, 2 * dInner, dModel], "f32", dModel ** -0.5),
    down: normals(backend, [experts, dModel, dInner], "f32", dInner ** -0.5),
  };
}

async function measure(backend: WebGpuBackend, what: string, flops: number, body: () => void): Promise<Numbers> {
  const { ms, least } = await timeOnGpu(backend, () => scope(body));
  return { what, ms, least, "TFLOP/s": Math.round(flops / ms / 1e7) / 100 };
}

function mlpCase(sizes: Sizes, isSkewed = false): GpuCase {
  const { tokens, topK, experts, dModel, dInner } = sizes;
  return {
    name: `experts ${topK} of ${experts}, ${tokens} tokens, ${dModel} by ${dInner}, f16${isSkewed ? ", skewed" : ""}`,
    tags: ["experts"],
    async run(backend) {
      const inputs = inputsOf(backend, sizes, isSkewed);
      const { definition } = expertMlp;
      const y = emptyTensor(backend, inputs.x.shape, "f16");
      const saved: Record<string, Tensor> = {};
      for (const [name, { shape, dtype }] of Object.entries(savedBy(inputs)))
        saved[name] = emptyTensor(backend, shape, dtype);
      const flops = 6 * tokens * topK * dModel * dInner;
      const call = { inputs, outputs: { y }, saved, options: {} };
      const forward = (): void => definition.kernels.webgpu!(call, backend);
      const gradInputs = Object.fromEntries(
        (["x", "gates", "upGate", "down"] as const).map((name) => [
          name,
          zeros(backend, inputs[name].shape, inputs[name].dtype),
        ]),
      );
      const gradOutputs = { y: normals(backend, y.shape, "f16") };
      const backward = (): void => {
        Object.values(gradInputs).forEach(fillZero);
        definition.gradient!.kernels.webgpu!({ ...call, gradOutputs, gradInputs }, backend);
      };
      const rows = normals(backend, [tokens * topK, dModel], "f16");
      const [up, down] = [inputs.upGate, inputs.down].map((weight) =>
        weight.entries(0, 1).reshape(weight.shape.slice(1)),
      );
      const dense = (): void => {
        const { y: uz } = linear({ x: rows, weight: up }, {});
        linear({ x: uz.columnsOf(0, dInner), weight: down }, {});
      };
      return [
        await measure(backend, "forward", flops, forward),
        await measure(backend, "dense products of the same size", flops, dense),
        await measure(backend, "backward", 2 * flops, backward),
        { what: "kernels, forward", ...(await timeByKernel(backend, forward)) },
        { what: "kernels, backward", ...(await timeByKernel(backend, backward)) },
      ];
    },
  };
}

/** A step of decoding: bound by the weights of the experts that are chosen. */
function decodeCase(sizes: Sizes): GpuCase {
  const { tokens, topK, experts, dModel, dInner } = sizes;
  return {
    name: `experts ${topK} of ${experts}, decoding ${tokens}, ${dModel} by ${dInner}, float32 weights`,
    tags: ["experts"],
    async run(backend) {
      const inputs = inputsOf(backend, sizes, false);
      const { ms, least } = await timeOnGpu(backend, () => scope(() => void expertMlp(inputs, {})));
      const bytes = 12 * Math.min(tokens * topK, experts) * dModel * dInner;
      return { ms, least, "GB/s": Math.round(bytes / ms / 1e6) };
    },
  };
}

function routeCase(tokens: number, experts: number, topK: number): GpuCase {
  return {
    name: `route ${tokens} tokens to ${topK} of ${experts}`,
    tags: ["experts"],
    async run(backend) {
      const logits = normals(backend, [tokens, experts], "f32");
      const { ms, least } = await timeOnGpu(backend, () => scope(() => void routeExperts({ logits }, { topK })));
      return { ms, least };
    },
  };
}

const SIZES = { tokens: 16384, topK: 1, experts: 8, dModel: 768, dInner: 1536 } as const;

export const EXPERT_CASES: readonly GpuCase[] = [
  mlpCase(SIZES),
  mlpCase({ ...SIZES, topK: 2 }),
  mlpCase({ ...SIZES, topK: 2 }, true),
  mlpCase({ ...SIZES, tokens: 2048, experts: 64, dInner: 768 }),
  decodeCase({ ...SIZES, tokens: 1 }),
  decodeCase({ ...SIZES, tokens: 8, topK: 2 }),
  routeCase(16384, 8, 2),
  routeCase(16384, 64, 1),
];
