// The exports of the module: the runtime, and one function a kernel, `(args: usize) => void`.
export { initThread, run, work } from "./runtime";
export { clear } from "./clear";
export { add } from "./add";
