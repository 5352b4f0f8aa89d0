// Kernels: WGSL with its buffers and parameters declared, written as text that does not depend on a device.
// A family is a function from a specification (types, tile sizes, what is fused) to a kernel; the same specification gives
// the same kernel, so that it is compiled once a device.
import { BackendError } from "../../core/errors.ts";

/** Scalars of a specification, which become constants of the source. */
export type KernelSpec = { readonly [name: string]: string | number | boolean | undefined };

/** What `body` is written against. */
export interface KernelSource {
  /** Storage buffers in the order of their bindings: name -> access and element type, such as "read vec4<f32>". */
  readonly buffers: Readonly<Record<string, BufferUse>>;
  /** Names of u32 parameters; "eps: f32" for a float32. For each buffer `x` there are also `x_at` and `x_stride`. */
  readonly params?: readonly string[];
  /** WGSL extensions beside f16 and subgroups, which are found in the text. */
  readonly enables?: readonly string[];
  /** Directives behind the extensions, such as `diagnostic(off, ...);`. */
  readonly directives?: string;
  /** WGSL: constants, functions and one entry point `main`. Parameters are `params.NAME`. */
  readonly body: string;
}

/**
 * read: only read. write: written without being read, and every element of the tensor is. add: read and written.
 * In WGSL write and add are both `read_write`.
 */
export type BufferUse = `${"read" | "write" | "add"} ${string}`;

/** A kernel: compiled by a backend at its first dispatch, or ahead. */
export interface Kernel {
  readonly id: number;
  /** Family and specification, for messages and profiles. */
  readonly name: string;
  readonly code: string;
  readonly buffers: readonly KernelBuffer[];
  /** Its own, which stand before the places of the tensors. */
  readonly params: readonly KernelParam[];
}

export interface KernelBuffer {
  readonly name: string;
  readonly use: "read" | "write" | "add";
  /** WGSL type of its elements. */
  readonly type: string;
}

export interface KernelParam {
  readonly name: string;
  readonly isFloat: boolean;
}

/** A family of kernels. */
export interface KernelFamily<S extends KernelSpec> {
  (spec: S): Kernel;
  readonly familyName: string;
  /** Specifications that together use all of its text: tests compile them. */
  readonly samples: readonly S[];
}

/** Every family that was defined, for the tests that compile all WGSL. */
export const KERNEL_FAMILIES: KernelFamily<KernelSpec>[] = [];

/** Words of a slot of parameters. */
export const MOST_PARAMS = 64;

let nextId = 0;

/**
 * Defines a family. `samples` are specifications for the tests that compile it. Parameters are read through `params`:
 * those declared, and for every buffer `x` the element at which its tensor begins (`params.x_at`) and the elements from
 * one of its rows to the next (`params.x_stride`).
 */
export function defineKernel<S extends KernelSpec>(
  familyName: string,
  samples: readonly S[],
  build: (spec: S) => KernelSource,
): KernelFamily<S> {
  const made = new Map<string, Kernel>();
  const family = (spec: S): Kernel => {
    const key = JSON.stringify(spec);
    let kernel = made.get(key);
    if (!kernel) {
      kernel = assemble(`${familyName}${key === "{}" ? "" : ` ${key.replaceAll('"', "")}`}`, build(spec));
      made.set(key, kernel);
    }
    return kernel;
  };
  const result = Object.assign(family, { familyName, samples });
  KERNEL_FAMILIES.push(result as unknown as KernelFamily<KernelSpec>);
  return result;
}

function assemble(name: string, source: KernelSource): Kernel {
  const buffers = Object.entries(source.buffers).map(([name, text]) => {
    const at = text.indexOf(" ");
    return { name, use: text.slice(0, at) as KernelBuffer["use"], type: text.slice(at + 1) };
  });
  const params = (source.params ?? []).map((text) => {
    const [name, type = "u32"] = text.split(":").map((part) => part.trim());
    return { name, isFloat: type === "f32" };
  });
  const fields = [
    ...params.map(({ name, isFloat }) => `  ${name}: ${isFloat ? "f32" : "u32"},`),
    ...buffers.map(({ name }) => `  ${name}_at: u32,\n  ${name}_stride: u32,`),
  ];
  if (params.length + 2 * buffers.length > MOST_PARAMS)
    throw new BackendError(
      `webgpu: ${name}: a kernel has at most ${MOST_PARAMS} parameters, two for each buffer among them.`,
    );
  const declared = buffers.map(
    ({ name, use, type }, i) =>
      `@group(0) @binding(${i + 1}) var<storage, ${use === "read" ? "read" : "read_write"}> ${name}: array<${type}>;`,
  );
  const text = [
    `struct Params {\n${fields.join("\n")}\n}`,
    "@group(0) @binding(0) var<uniform> params: Params;",
    ...declared,
    source.body,
  ].join("\n");
  const enables = new Set(source.enables ?? []);
  if (/\bf16\b|vec[234]h/.test(text)) enables.add("f16");
  if (/\bsubgroup[A-Z]|\bsubgroup_/.test(text)) enables.add("subgroups");
  const head = [...enables].map((extension) => `enable ${extension};`).join("\n");
  const code = [head, source.directives, text].filter(Boolean).join("\n");
  return { id: nextId++, name, code, buffers, params };
}
