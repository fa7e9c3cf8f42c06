// Formats of numbers and times, and helpers for elements. Untrusted text is only ever set as text.

export const $ = (id) => document.getElementById(id);

/** Sets a text if it differs: screen readers announce only changes. */
export function setText(id, text) {
  const target = $(id);
  if (target.textContent !== text) target.textContent = text;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);
export const short = (number) => compact.format(number);
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export function rate(number) {
  if (number === 0) return "0";
  if (number < 0.1) return "<0.1";
  return number < 10 ? number.toFixed(1) : number < 100_000 ? count(number) : short(number);
}

export function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < 4) {
    number /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : 1;
  return `${number.toFixed(digits)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function duration(seconds) {
  const days = Math.floor(seconds / 86_400);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const time = `${two((seconds / 3600) % 24)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
  return days > 0 ? `${days} d ${time}` : time;
}

export const wait = (seconds) => (seconds < 0.001 ? "under 1 ms" : `${Math.round(seconds * 1000)} ms`);

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium" });
const date = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });

/** The time at which a message was put: its id in microseconds. */
export function time(id) {
  const at = new Date(id / 1000);
  return (Date.now() - at < 43_200_000 ? clock : date).format(at);
}
