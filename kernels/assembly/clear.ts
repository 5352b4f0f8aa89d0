// clear: sets bytes to zero.
import { nextItem } from "./runtime";

const BLOCK_BYTES: i32 = 1 << 17;

/** args: address, bytes. */
export function clear(args: usize): void {
  const address = <usize>load<u32>(args);
  const bytes = load<u32>(args, 4);
  const blocks = <i32>((bytes + BLOCK_BYTES - 1) / BLOCK_BYTES);
  for (let block = nextItem(); block < blocks; block = nextItem()) {
    const start = <u32>block * BLOCK_BYTES;
    memory.fill(address + start, 0, min<u32>(BLOCK_BYTES, bytes - start));
  }
}
