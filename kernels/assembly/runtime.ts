// Fork and join: commands, claimed item by item by all threads, over one shared memory.
//
// The calling thread (thread 0) opens a command, works on it, closes it and waits for those who entered. A worker that
// the system has not scheduled never enters, so it holds nobody up: on a busy machine the others just claim its items.

/** The control block lies below the data segments (--memoryBase), so that a worker's start does not write over it. */
const CONTROL: usize = 1024;
/** phase << 16 | CLOSED | threads inside. One word, so that entering and closing cannot cross. */
const STATE: usize = CONTROL;
/** Next unclaimed item of the open command. Words that different threads write lie 128 bytes apart. */
const ITEM: usize = CONTROL + 128;
/** Address of the open command: its kernel's table index, then its arguments. */
const COMMAND: usize = CONTROL + 256;
/** Workers asleep on STATE. */
const SLEEPERS: usize = CONTROL + 384;

const CLOSED: i32 = 1 << 15;
const INSIDE_MASK: i32 = CLOSED - 1;

/** Bytes a command: 64 slots of 32 bits. Slot 0 is the kernel, with SERIAL set when one thread should do it alone. */
export const COMMAND_BYTES: usize = 256;
const SERIAL: i32 = 1 << 30;

/** Spins before a thread sleeps: some 30 µs, longer than the gaps between the ops of a model. */
const SPINS: i32 = 40000;

/** Working memory of one thread, uninitialised, at least SCRATCH_BYTES, 64-byte aligned. */
export let scratch: usize = 0;
export const SCRATCH_BYTES: usize = 2 << 20;
/** How many threads share the work: for choosing the size of an item, never for dividing the work. */
export let threads: i32 = 1;

/** Tells an instance of the module its scratch memory and how many threads there are. Call once in each thread. */
export function initThread(scratchAddress: usize, threadCount: i32): void {
  scratch = scratchAddress;
  threads = threadCount;
}

/** Claims an item: 0, 1, 2 ... each once among all threads. A kernel stops when it gets one beyond its last. */
// @ts-ignore: decorator
@inline
export function nextItem(): i32 {
  return atomic.add<i32>(ITEM, 1);
}

/** Runs `count` commands that lie behind each other at `program`. Thread 0 only. */
export function run(program: usize, count: i32): void {
  for (let i = 0; i < count; i++) {
    const command = program + <usize>i * COMMAND_BYTES;
    const kernel = load<i32>(command);
    atomic.store<i32>(ITEM, 0);
    if (threads == 1 || kernel & SERIAL) call_indirect<void>(kernel & ~SERIAL, command + 4);
    else fork(kernel, command);
  }
}

function fork(kernel: i32, command: usize): void {
  store<i32>(COMMAND, <i32>command);
  const opened = (((atomic.load<i32>(STATE) >>> 16) + 1) & 0xffff) << 16;
  atomic.store<i32>(STATE, opened);
  if (atomic.load<i32>(SLEEPERS) > 0) atomic.notify(STATE, threads);
  call_indirect<void>(kernel, command + 4);
  atomic.or<i32>(STATE, CLOSED);
  let spins = 0;
  for (;;) {
    const state = atomic.load<i32>(STATE);
    if ((state & INSIDE_MASK) == 0) return;
    if (++spins < SPINS) continue;
    atomic.add<i32>(SLEEPERS, 1);
    atomic.wait<i32>(STATE, state, 1000000);
    atomic.sub<i32>(SLEEPERS, 1);
  }
}

/** A worker's life: enter each open command once, claim items until none is left, leave. Never returns. */
export function work(): void {
  let done = -1;
  let spins = 0;
  for (;;) {
    const state = atomic.load<i32>(STATE);
    if (state >>> 16 != done && (state & CLOSED) == 0) {
      if (atomic.cmpxchg<i32>(STATE, state, state + 1) != state) continue;
      done = state >>> 16;
      const command = <usize>load<u32>(COMMAND);
      call_indirect<void>(load<i32>(command), command + 4);
      const left = atomic.sub<i32>(STATE, 1) - 1;
      if ((left & INSIDE_MASK) == 0 && left & CLOSED && atomic.load<i32>(SLEEPERS) > 0) atomic.notify(STATE, threads);
      spins = 0;
    } else if (++spins >= SPINS) {
      atomic.add<i32>(SLEEPERS, 1);
      atomic.wait<i32>(STATE, state, -1);
      atomic.sub<i32>(SLEEPERS, 1);
      spins = 0;
    }
  }
}
