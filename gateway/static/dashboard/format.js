// Numbers, durations and sizes as people read them.

const NONE = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(n) {
  if (n == null) return NONE;
  if (n < 1e6) return whole.format(n);
  return n < 1e9 ? `${(n / 1e6).toFixed(2)} M` : `${(n / 1e9).toFixed(2)} G`;
}

export function rate(n) {
  if (n == null) return NONE;
  if (n === 0) return "0";
  return n < 10 ? n.toFixed(n < 1 ? 2 : 1) : count(n);
}

export function ms(n) {
  if (n == null) return NONE;
  if (n >= 10_000) return `${(n / 1000).toFixed(0)} s`;
  if (n >= 1000) return `${(n / 1000).toFixed(2)} s`;
  return `${n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)} ms`;
}

export function mib(n) {
  if (n == null) return NONE;
  return n < 1024 ? `${n.toFixed(0)} MiB` : `${(n / 1024).toFixed(1)} GiB`;
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  return n < 2 ** 20 ? `${(n / 1024).toFixed(1)} KiB` : mib(n / 2 ** 20);
}

export function percent(share, digits = 0) {
  return share == null || Number.isNaN(share) ? NONE : `${(share * 100).toFixed(digits)} %`;
}

// Seconds, as a length of time.
export function span(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 1) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${seconds.toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return seconds < 129_600 ? `${(seconds / 3600).toFixed(0)} h` : `${(seconds / 86_400).toFixed(0)} d`;
}

export const ago = (at) => `${span(Math.max(0, Date.now() / 1000 - at))} ago`;

// A moment of today by its time alone.
export function moment(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

// Digests and ids are known by how they begin.
export const shortened = (name) => (/^[0-9a-f]{16,}/.test(name) ? `${name.slice(0, 8)}…` : name);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
