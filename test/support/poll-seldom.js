// While Dawn waits it asks the device whenever Node's loop comes by: a core that an adapter on the processor could use.
// Loaded before it, in tests and in the commands they run, this makes it ask once a millisecond.
const atOnce = globalThis.setImmediate;

// Dawn asks through setImmediate, with functions that are not JavaScript.
globalThis.setImmediate = (callback, ...args) =>
  String(callback).includes("[native code]") ? setTimeout(() => callback(...args), 1) : atOnce(callback, ...args);
