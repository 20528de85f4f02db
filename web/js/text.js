// Makes text from the fleet safe to read: names, labels, reasons and log lines come from guests and hosts.
// Must never return a character that a browser obeys instead of showing.

// The longest text in a table cell, in UTF-16 units. A name may have kilobytes; a cell shows some dozens.
export const CELL_MAX = 160;

// Control characters, lone surrogates, characters that turn or end a line of text, and characters without
// width, by which two different names would look the same. Joiners of scripts and emoji stay.
const OBEYED = /[\p{Cc}\p{Cs}\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

const SHORT = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escape(char) {
  if (SHORT[char]) return SHORT[char];
  const code = char.codePointAt(0);
  return code < 0x100 ? '\\x' + code.toString(16).padStart(2, '0') : '\\u{' + code.toString(16) + '}';
}

// As the command `muster` shows it on a terminal: one line, in which nothing is obeyed. A text that is
// longer than `max` is cut, and the end says how much is missing.
export function visible(value, max = CELL_MAX) {
  const text = asText(value);
  const kept = cut(text, max);
  return kept.replace(OBEYED, escape) + rest(text, kept);
}

// The same for text that may have lines and tabs, such as the output of a guest.
export function visibleLines(value, max) {
  const text = asText(value);
  const kept = cut(text, max);
  return kept.replace(OBEYED, (char) => (char === '\n' || char === '\t' ? char : escape(char))) + rest(text, kept);
}

// A value that should be a text and is none is shown as JSON, so that it cannot be taken for an element.
function asText(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

// Does not cut a character of two units in half, which would show as a lone surrogate.
function cut(text, max) {
  if (text.length <= max) return text;
  const last = text.charCodeAt(max - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? max - 1 : max);
}

function rest(text, kept) {
  return text.length === kept.length ? '' : `… (${text.length - kept.length} more characters)`;
}
