// Compiled kernels and their bind groups, kept for the next dispatch of the same.
import { BackendError } from "../../core/errors.ts";
import type { Failures } from "./failures.ts";
import type { Kernel } from "./kernel.ts";
import { SLOT_BYTES } from "./params.ts";

const COMPUTE = 0x4;
/** Bind groups kept at the most; then all are forgotten, for they are cheap to make. */
const MOST_GROUPS = 1 << 15;

export interface CompiledKernel {
  readonly kernel: Kernel;
  readonly layout: GPUBindGroupLayout;
  /** Absent while it is being compiled ahead. */
  pipeline: GPUComputePipeline | undefined;
  /** Why the device refuses it. */
  failure: BackendError | undefined;
}

/** A part of a buffer that a kernel sees, in bytes, and in it a tensor, in elements. */
export interface BoundRange {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
  /** The tensor's first element. */
  readonly at: number;
  /** From one row to the next. */
  readonly stride: number;
}

export class Pipelines {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  readonly #compiled = new Map<number, CompiledKernel>();
  readonly #groups = new Map<string, GPUBindGroup>();
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 0;

  constructor(device: GPUDevice, failures: Failures) {
    this.#device = device;
    this.#failures = failures;
  }

  /** The pipeline of a kernel, compiled now unless it was before. @throws BackendError for one that was refused before */
  pipelineOf(kernel: Kernel): CompiledKernel & { readonly pipeline: GPUComputePipeline } {
    const compiled = this.#entry(kernel);
    if (compiled.failure) throw compiled.failure;
    compiled.pipeline ??= this.#watched(kernel, () => {
      const module = this.#device.createShaderModule({ label: kernel.name, code: kernel.code });
      return this.#device.createComputePipeline(this.#describe(compiled, module));
    });
    return compiled as CompiledKernel & { readonly pipeline: GPUComputePipeline };
  }

  /** Compiles kernels side by side, ahead of their first use. @throws BackendError for WGSL that the device refuses */
  async compileAhead(kernels: Iterable<Kernel>): Promise<void> {
    const wanted = [...new Set(kernels)].map((kernel) => this.#entry(kernel)).filter(({ pipeline }) => !pipeline);
    await this.#failures.guard("compiling", () => Promise.all(wanted.map((compiled) => this.#compile(compiled))));
  }

  async #compile(compiled: CompiledKernel): Promise<void> {
    const { name, code } = compiled.kernel;
    this.#device.pushErrorScope("validation");
    const module = this.#device.createShaderModule({ label: name, code });
    const refused = this.#device.popErrorScope().catch(() => undefined);
    try {
      compiled.pipeline = await this.#device.createComputePipelineAsync(this.#describe(compiled, module));
    } catch (cause) {
      compiled.failure ??= compileError(name, (await refused) ?? (cause as Error));
      throw compiled.failure;
    }
  }

  groupOf({ kernel, layout }: CompiledKernel, params: GPUBuffer, ranges: readonly BoundRange[]): GPUBindGroup {
    let key = `${kernel.id},${this.#idOf(params)}`;
    for (const { buffer, offset, size } of ranges) key += `,${this.#idOf(buffer)}:${offset}:${size}`;
    let group = this.#groups.get(key);
    if (!group) {
      if (this.#groups.size >= MOST_GROUPS) this.forgetGroups();
      group = this.#device.createBindGroup({
        label: kernel.name,
        layout,
        entries: [{ buffer: params, offset: 0, size: SLOT_BYTES }, ...ranges].map(
          ({ buffer, offset, size }, binding) => ({
            binding,
            resource: { buffer, offset, size },
          }),
        ),
      });
      this.#groups.set(key, group);
    }
    return group;
  }

  /** To be called when buffers were destroyed: bind groups must not name them. */
  forgetGroups(): void {
    this.#groups.clear();
  }

  #entry(kernel: Kernel): CompiledKernel {
    let compiled = this.#compiled.get(kernel.id);
    if (!compiled) {
      const layout = this.#watched(kernel, () => this.#layoutOf(kernel));
      compiled = { kernel, layout, pipeline: undefined, failure: undefined };
      this.#compiled.set(kernel.id, compiled);
    }
    return compiled;
  }

  #layoutOf({ name, buffers }: Kernel): GPUBindGroupLayout {
    const entries: GPUBindGroupLayoutEntry[] = buffers.map(({ use }, i) => ({
      binding: i + 1,
      visibility: COMPUTE,
      buffer: { type: use === "read" ? "read-only-storage" : "storage" },
    }));
    const params: GPUBindGroupLayoutEntry = {
      binding: 0,
      visibility: COMPUTE,
      buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: 0 },
    };
    return this.#device.createBindGroupLayout({ label: name, entries: [params, ...entries] });
  }

  #describe({ kernel: { name }, layout }: CompiledKernel, module: GPUShaderModule): GPUComputePipelineDescriptor {
    return {
      label: name,
      layout: this.#device.createPipelineLayout({ label: name, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    };
  }

  /** What the device refuses in `body` is the kernel's failure: told with the next check, and at each further use. */
  #watched<T>(kernel: Kernel, body: () => T): T {
    return this.#failures.watch(this.#device, "validation", body, (error) => {
      const compiled = this.#compiled.get(kernel.id)!;
      compiled.failure ??= compileError(kernel.name, error);
      this.#failures.add(compiled.failure);
    });
  }

  #idOf(buffer: GPUBuffer): number {
    let id = this.#bufferIds.get(buffer);
    if (id === undefined) {
      id = this.#nextBufferId++;
      this.#bufferIds.set(buffer, id);
    }
    return id;
  }
}

function compileError(name: string, cause: { readonly message: string }): BackendError {
  return new BackendError(`webgpu: the kernel "${name}" does not compile on this device: ${cause.message.trim()}`, {
    cause,
  });
}
