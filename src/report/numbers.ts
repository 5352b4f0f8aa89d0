// Numbers as the charts and the page write them.

/** Three significant digits, without an exponent: `0.0123`, `4.56`, `1230`. */
export function digits(value: number, count = 3): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const rounded = Number(value.toPrecision(count));
  const behind = Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(rounded))));
  return rounded.toFixed(Math.min(behind, 8));
}

/** Without zeros at the end: `1.5`, `20`. */
export function short(value: number, count = 3): string {
  const text = digits(value, count);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

const COUNTS: readonly [number, string][] = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "K"],
];

/** `950`, `12.3K`, `5.01M`. */
export function count(value: number): string {
  const [size, unit] = COUNTS.find(([size]) => value >= size * 0.9995) ?? [1, ""];
  return `${short(value / size)}${unit}`;
}

/** A length: `512`, `16K` (that is 16 x 1024), `1M`; others in full. */
export function length(value: number): string {
  if (value >= 2 ** 20 && value % 2 ** 20 === 0) return `${value / 2 ** 20}M`;
  if (value >= 1024 && value % 1024 === 0) return `${value / 1024}K`;
  return value.toLocaleString("en-US");
}

/** `2^10` where it is a power of two (charts raise the exponent), else as `length`. */
export function power(value: number): string {
  const exponent = Math.log2(value);
  return Number.isInteger(exponent) ? `2^${exponent}` : length(value);
}

/** `3.1 µs`, `12 ms`, `8.5 s`, `3 min 12 s`. */
export function seconds(value: number): string {
  if (value < 1e-6) return `${short(value * 1e9)} ns`;
  if (value < 1e-3) return `${short(value * 1e6)} µs`;
  if (value < 1) return `${short(value * 1e3)} ms`;
  if (value < 60) return `${short(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

/** `64 KiB`, `3.1 GiB`. */
export function bytes(value: number): string {
  let unit = 0;
  for (; value >= 1024 && unit < BYTES.length - 1; unit++) value /= 1024;
  return `${short(value)} ${BYTES[unit]}`;
}

/** `99.7 %`. */
export function percent(value: number): string {
  return `${(value * 100).toFixed(value === 0 || value === 1 ? 0 : 1)} %`;
}

/** `3.4 times as fast`; of what is nearly the same, `about as fast`. `word`: fast, much. */
export function timesAs(word: string, value: number): string {
  return value < 1.05 ? `about as ${word}` : `${times(value)} as ${word}`;
}

/** `3.4 times`, `25 times`. */
export function times(value: number): string {
  return `${value >= 10 ? Math.round(value) : short(value, 2)} times`;
}

/** `a, b and c`. */
export function sentenceList(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** What stands before the details of a reason: `out of memory` of `out of memory: 1.4 GiB asked`. */
export function shortReason(reason: string, most = 30): string {
  const [first] = reason.split(/[:;(]|\. |, /);
  const text = first.trim().replace(/\.$/, "");
  return text.length > most ? `${text.slice(0, most - 1).trimEnd()}…` : text;
}
