// A reader of pickles that executes nothing: it knows the opcodes that tensors need, and asks its caller about every global name.
// Source: CPython, Lib/pickletools.py (meaning of the opcodes); PyTorch, torch/_weights_only_unpickler.py (the same idea).
import { CheckpointError } from "../core/errors.ts";
import { describe } from "./text.ts";

/** A tuple of a pickle; lists are JavaScript arrays, dicts are Maps. */
export class PickleTuple {
  readonly items: readonly unknown[];
  constructor(items: readonly unknown[]) {
    this.items = items;
  }
}

/** What a global name of a pickle stands for: one of our own functions. */
export type PickleFunction = (args: readonly unknown[]) => unknown;

/** Who decides what a pickle may name. Both throw CheckpointError to refuse. */
export interface PickleHost {
  readonly findGlobal: (module: string, name: string) => PickleFunction;
  /** The object behind a persistent id. */
  readonly loadPersistent: (id: unknown) => unknown;
}

/** Each opcode makes at most one value, so this bounds time and memory. A checkpoint of 10,000 tensors needs about 500,000. */
const MOST_OPERATIONS = 10_000_000;
const LONGEST_STRING_BYTES = 2 ** 16;
const STOP = 0x2e;

type Operation = (machine: PickleMachine) => void;

/** The stack, the memo and the position of a pickle that is being read. */
class PickleMachine {
  readonly file: string;
  readonly host: PickleHost;
  readonly memo: Map<number, unknown> = new Map();
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #marks: number[] = [];
  #stack: unknown[] = [];
  #position = 0;

  constructor(bytes: Uint8Array, host: PickleHost, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.host = host;
    this.file = file;
  }

  refuse(what: string): never {
    throw new CheckpointError(
      `${this.file}: the pickle ${what} (byte ${this.#position}). Only tensors are read from pickles, nothing is executed: ` +
        `save model.state_dict() with torch.save, or convert the checkpoint to safetensors.`,
    );
  }

  /** Moves on by `count` bytes and gives where they start. */
  take(count: number): number {
    const start = this.#position;
    if (start + count > this.#bytes.length) this.refuse("is truncated");
    this.#position = start + count;
    return start;
  }

  uint8(): number {
    return this.#bytes[this.take(1)];
  }

  uint16(): number {
    return this.#view.getUint16(this.take(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.take(4), true);
  }

  int32(): number {
    return this.#view.getInt32(this.take(4), true);
  }

  /** A float64, the one big-endian number of a pickle. */
  float64(): number {
    return this.#view.getFloat64(this.take(8), false);
  }

  /** A two's complement integer of `count` little-endian bytes. */
  long(count: number): number {
    if (count > 8) this.refuse("holds an integer of more than 64 bits");
    const start = this.take(count);
    let value = 0n;
    for (let i = 0; i < count; i++) value |= BigInt(this.#bytes[start + i]) << BigInt(8 * i);
    const signed = Number(BigInt.asIntN(8 * count, value));
    if (!Number.isSafeInteger(signed)) this.refuse("holds an integer beyond 2^53");
    return signed;
  }

  text(count: number): string {
    if (count > LONGEST_STRING_BYTES) this.refuse(`holds a text of ${count} bytes`);
    const start = this.take(count);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.#bytes.subarray(start, start + count));
    } catch {
      return this.refuse("holds a text that is not UTF-8");
    }
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#position);
    if (end < 0) this.refuse("is truncated");
    const text = this.text(end - this.#position);
    this.take(1);
    return text;
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    this.#checkDepth(1);
    return this.#stack.pop();
  }

  top(): unknown {
    this.#checkDepth(1);
    return this.#stack[this.#stack.length - 1];
  }

  popSome(count: number): unknown[] {
    this.#checkDepth(count);
    return this.#stack.splice(this.#stack.length - count);
  }

  /** Values above the last mark must stay for popToMark. */
  #checkDepth(count: number): void {
    if (this.#stack.length - count < (this.#marks[this.#marks.length - 1] ?? 0))
      this.refuse("takes more from its stack than it put there");
  }

  mark(): void {
    this.#marks.push(this.#stack.length);
  }

  popToMark(): unknown[] {
    const start = this.#marks.pop();
    if (start === undefined) this.refuse("closes a list that it never opened");
    return this.#stack.splice(start);
  }

  setItems(items: readonly unknown[]): void {
    const dict = this.top();
    if (!(dict instanceof Map) || items.length % 2 !== 0) this.refuse("sets items of what is no dict");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== "string" && typeof key !== "number")
        this.refuse("has a dict whose keys are neither texts nor numbers");
      dict.set(key, items[i + 1]);
    }
  }

  append(items: readonly unknown[]): void {
    const list = this.top();
    if (!Array.isArray(list)) this.refuse("appends to what is no list");
    for (const item of items) list.push(item);
  }

  recall(index: number): void {
    if (!this.memo.has(index)) this.refuse(`recalls memo ${index}, which it never stored`);
    this.push(this.memo.get(index));
  }

  pushGlobal(module: unknown, name: unknown): void {
    if (typeof module !== "string" || typeof name !== "string") this.refuse(`names a global by ${describe(module)}`);
    this.push(this.host.findGlobal(module, name));
  }

  call(): void {
    const [callee, args] = this.popSome(2);
    if (typeof callee !== "function" || !(args instanceof PickleTuple)) this.refuse("calls what is no function");
    // Functions only come from the host's findGlobal.
    this.push((callee as PickleFunction)(args.items));
  }

  /** Attributes of an OrderedDict (`_metadata` of a state dict) do not matter; anything else has no attributes to set. */
  build(): void {
    this.pop();
    if (!(this.top() instanceof Map)) this.refuse("sets attributes of an object");
  }
}

/** Opcodes that put a value on the stack. */
const VALUES: readonly (readonly [number, Operation])[] = [
  [0x4e, (machine) => machine.push(null)], // NONE
  [0x88, (machine) => machine.push(true)], // NEWTRUE
  [0x89, (machine) => machine.push(false)], // NEWFALSE
  [0x4a, (machine) => machine.push(machine.int32())], // BININT
  [0x4b, (machine) => machine.push(machine.uint8())], // BININT1
  [0x4d, (machine) => machine.push(machine.uint16())], // BININT2
  [0x8a, (machine) => machine.push(machine.long(machine.uint8()))], // LONG1
  [0x47, (machine) => machine.push(machine.float64())], // BINFLOAT
  [0x58, (machine) => machine.push(machine.text(machine.uint32()))], // BINUNICODE
  [0x8c, (machine) => machine.push(machine.text(machine.uint8()))], // SHORT_BINUNICODE
  [0x29, (machine) => machine.push(new PickleTuple([]))], // EMPTY_TUPLE
  [0x5d, (machine) => machine.push([])], // EMPTY_LIST
  [0x7d, (machine) => machine.push(new Map())], // EMPTY_DICT
];

/** Opcodes that combine values of the stack. */
const COMBINATIONS: readonly (readonly [number, Operation])[] = [
  [0x28, (machine) => machine.mark()], // MARK
  [0x74, (machine) => machine.push(new PickleTuple(machine.popToMark()))], // TUPLE
  [0x85, (machine) => machine.push(new PickleTuple(machine.popSome(1)))], // TUPLE1
  [0x86, (machine) => machine.push(new PickleTuple(machine.popSome(2)))], // TUPLE2
  [0x87, (machine) => machine.push(new PickleTuple(machine.popSome(3)))], // TUPLE3
  [0x61, (machine) => machine.append(machine.popSome(1))], // APPEND
  [0x65, (machine) => machine.append(machine.popToMark())], // APPENDS
  [0x73, (machine) => machine.setItems(machine.popSome(2))], // SETITEM
  [0x75, (machine) => machine.setItems(machine.popToMark())], // SETITEMS
  [0x63, (machine) => machine.pushGlobal(machine.line(), machine.line())], // GLOBAL
  [0x93, (machine) => machine.pushGlobal(...(machine.popSome(2) as [unknown, unknown]))], // STACK_GLOBAL
  [0x52, (machine) => machine.call()], // REDUCE
  [0x62, (machine) => machine.build()], // BUILD
  [0x51, (machine) => machine.push(machine.host.loadPersistent(machine.pop()))], // BINPERSID
];

/** Opcodes about the memo and the stream itself. */
const BOOKKEEPING: readonly (readonly [number, Operation])[] = [
  [0x71, (machine) => machine.memo.set(machine.uint8(), machine.top())], // BINPUT
  [0x72, (machine) => machine.memo.set(machine.uint32(), machine.top())], // LONG_BINPUT
  [0x94, (machine) => machine.memo.set(machine.memo.size, machine.top())], // MEMOIZE
  [0x68, (machine) => machine.recall(machine.uint8())], // BINGET
  [0x6a, (machine) => machine.recall(machine.uint32())], // LONG_BINGET
  [0x80, (machine) => machine.take(1)], // PROTO
  [0x95, (machine) => machine.take(8)], // FRAME
];

const OPERATIONS: ReadonlyMap<number, Operation> = new Map([...VALUES, ...COMBINATIONS, ...BOOKKEEPING]);

/**
 * The value of a pickle of protocol 2 to 5. Reads numbers, texts, tuples, lists, dicts, and what `host` allows; nothing else.
 * Throws CheckpointError that names the opcode or the global which was refused.
 */
export function unpickle(bytes: Uint8Array, host: PickleHost, file: string): unknown {
  const machine: PickleMachine = new PickleMachine(bytes, host, file);
  for (let count = 0; count < MOST_OPERATIONS; count++) {
    const opcode = machine.uint8();
    if (opcode === STOP) return machine.pop();
    const operation = OPERATIONS.get(opcode);
    if (operation === undefined) machine.refuse(`uses opcode 0x${opcode.toString(16)}, which no tensor needs`);
    operation(machine);
  }
  return machine.refuse(`has more than ${MOST_OPERATIONS} operations`);
}
