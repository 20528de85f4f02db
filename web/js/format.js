// Numbers, durations, sizes and times as people read them. Pure functions; must never read a clock.

const COUNT = new Intl.NumberFormat('en-US');
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-CA', { year: 'numeric', month: '2-digit', day: '2-digit' });

const S = 1_000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;

export function count(n) {
  return Number.isFinite(n) ? COUNT.format(n) : '–';
}

export function plural(n, one, many = one + 's') {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// Two units at most: 340 ms, 3.2 s, 1 m 05 s, 2 h 03 m, 3 d 04 h.
export function duration(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 0) return '0 ms';
  if (ms < S) return `${Math.round(ms)} ms`;
  if (ms < 10 * S) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < M) return `${Math.floor(ms / S)} s`;
  const [big, small, units] = ms < H ? [M, S, 'ms'] : ms < D ? [H, M, 'hm'] : [D, H, 'dh'];
  return `${Math.floor(ms / big)} ${units[0]} ${String(Math.floor((ms % big) / small)).padStart(2, '0')} ${units[1]}`;
}

// A duration that is read as an offset on a scale: +1.25 s, +0.340 s.
export function offset(ms) {
  return Math.abs(ms) < M ? `+${(ms / S).toFixed(Math.abs(ms) < 10 * S ? 2 : 1)} s` : `+${duration(ms)}`;
}

export function ago(ms) {
  if (!Number.isFinite(ms)) return '–';
  return ms < S ? 'just now' : `${ms < 10 * S ? `${Math.floor(ms / S)} s` : duration(ms)} ago`;
}

export function bytes(n) {
  if (!Number.isFinite(n)) return '–';
  if (n < 1024) return `${n} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let size = n / 1024;
  let unit = 0;
  while (size >= 1023.95 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 && size % 1 !== 0 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

// The time of day in the reader's zone. A time that the server has not set shows as a dash.
export function time(ms) {
  return Number.isFinite(ms) ? CLOCK.format(ms) : '–';
}

export function timeMillis(ms) {
  return Number.isFinite(ms) ? `${CLOCK.format(ms)}.${String(Math.floor(ms % S)).padStart(3, '0')}` : '–';
}

export function date(ms) {
  return Number.isFinite(ms) ? `${DAY.format(ms)} ${CLOCK.format(ms)}` : '–';
}

// The exact time in UTC, for titles and for comparison with the logs of hosts.
export function utc(ms) {
  return Number.isFinite(ms) && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : '';
}

// `timed_out` and `timed out` are the same word for people.
export function words(text) {
  return String(text ?? '').replaceAll('_', ' ');
}
