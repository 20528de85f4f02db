// Counts the words of a text: bytes in, JSON out. It must never return anything else than
// examples/wordcount does for the same bytes.
//
// A word is a run of ASCII letters and digits, in lower case.

// The number of the most frequent words in the result.
const TOP = 10;

const NEWLINE = 10;

/** The task: what the world `muster:task/task` calls `run`. */
export function run(input) {
  // One character a byte, so that no two different bytes become the same one.
  let text = "";
  for (let at = 0; at < input.length; at += 4096) {
    text += String.fromCharCode(...input.subarray(at, at + 4096));
  }
  const seen = new Map();
  let words = 0;
  for (const [word] of text.matchAll(/[A-Za-z0-9]+/g)) {
    const lower = word.toLowerCase();
    seen.set(lower, (seen.get(lower) ?? 0) + 1);
    words += 1;
  }

  // The most frequent first; words that are equally frequent in alphabetical order.
  const top = [...seen].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, TOP);

  let lines = 0;
  for (const byte of input) {
    lines += byte === NEWLINE ? 1 : 0;
  }
  // The last line counts even without a newline at its end.
  if (input.length > 0 && input[input.length - 1] !== NEWLINE) {
    lines += 1;
  }
  return new TextEncoder().encode(JSON.stringify({ lines, words, bytes: input.length, top }));
}
