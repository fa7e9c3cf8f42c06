// One topic: its last messages and its actions; and publishing.

import { $, bytes, count, element, plural, rate, setText, time } from "./show.js";

const SHOWN = 50;
const SHOWN_LENGTH = 4096;
/** Above this rate (messages a second), or above LARGE bytes a message, the list is refreshed once a second. */
const FAST = 50;
const LARGE = 100_000;

let topic = null;
let facts = null;
let source = null;
/** Increases whenever another topic opens, so that late responses can be discarded. */
let version = 0;
let sampling = false;
let arrived = 0;

const at = (name) => `/t/${encodeURIComponent(name)}`;

export const opened = () => topic;

function message({ id, text, bytes: size }) {
  const cut = text.length > SHOWN_LENGTH || new TextEncoder().encode(text).length < size;
  const shown = text.slice(0, SHOWN_LENGTH);
  const facts = [element("time", { datetime: new Date(id / 1000).toISOString() }, time(id)), `id ${id}`, bytes(size)];
  if (cut) facts.push(element("a", { href: `${at(topic)}?since=${id - 1}&limit=1` }, "the whole message"));
  const line = element("p", { class: "note" }, ...facts.flatMap((fact, index) => (index ? [" · ", fact] : [fact])));
  const item = element("li", {}, line, element("pre", {}, cut ? `${shown}…` : shown));
  item.dataset.id = id;
  return item;
}

/** Adds messages to the list, newest first. */
function add(messages) {
  const list = $("messages-list");
  const newest = Number(list.firstElementChild?.dataset.id ?? 0);
  const fresh = messages.filter(({ id }) => id > newest).map(message);
  list.prepend(...fresh.reverse());
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
}

/** Fetches the last messages; null after an error, or if another topic was opened meanwhile. */
async function load(requested = version) {
  const response = await fetch(`/api/topic?name=${encodeURIComponent(topic)}`);
  const answer = await response.json();
  if (requested !== version) return null;
  if (!response.ok) {
    setText("follows", answer.error);
    return null;
  }
  return answer;
}

function disconnect() {
  source?.close();
  source = null;
}

/** Shows the last messages, then the new ones as they arrive. */
async function follow() {
  version += 1;
  disconnect();
  sampling = false;
  const answer = await load().catch(() => null);
  if (!answer) return;
  $("messages-list").replaceChildren();
  add(answer.messages);
  if (isFast()) return sample();
  setText("follows", "following");
  source = new EventSource(`${at(topic)}?since=${answer.last}`);
  source.onerror = ({ target }) => target.readyState === EventSource.CLOSED && sample();
  let waiting = [];
  source.onmessage = (event) => {
    arrived += 1;
    // One update per frame, with no more messages than the list shows.
    if (waiting.length === 0) requestAnimationFrame(() => add(waiting.splice(0)));
    waiting.push({ id: Number(event.lastEventId), text: event.data, bytes: new Blob([event.data]).size });
    if (waiting.length > SHOWN) waiting.shift();
  };
}

const isFast = () => facts && (facts.put_rate > FAST || facts.bytes > LARGE * facts.length);

function sample() {
  disconnect();
  sampling = true;
  setText("follows", "refreshed every second");
}

/** Runs once a second with the topic's numbers; null if the topic does not exist. */
export async function tick(open) {
  facts = open;
  const flood = arrived > 10 * FAST;
  arrived = 0;
  if (topic === null) return;
  showFacts();
  if (source && (flood || isFast())) sample();
  else if (sampling && !isFast()) await follow();
  else if (sampling) {
    const answer = await load().catch(() => null);
    if (answer && sampling) {
      $("messages-list").replaceChildren();
      add(answer.messages);
    }
  }
}

function showFacts() {
  $("stop").textContent = facts?.stopped ? "Start" : "Stop";
  $("stop").disabled = $("purge").disabled = !facts;
  if (!facts) return setText("topic-facts", "This topic does not exist yet: the first message creates it.");
  const parts = [
    `${plural(facts.length, "message")}, ${bytes(facts.bytes)}`,
    `${rate(facts.put_rate)}/s in`,
    `${rate(facts.take_rate)}/s taken`,
    plural(facts.consumers, "consumer") + (source && facts.consumers ? ", this page among them" : ""),
    facts.policy ?? "no policy set",
    facts.stopped ? "stopped" : "started",
  ];
  if (facts.leased) parts.push(`${count(facts.leased)} leased`);
  if (facts.delayed) parts.push(`${count(facts.delayed)} delayed`);
  setText("topic-facts", parts.join(" · "));
}

export function open(name) {
  version += 1;
  topic = name;
  facts = null;
  disconnect();
  $("messages-list").replaceChildren();
  $("topic").hidden = name === null;
  setText("done", "");
  setText("follows", "");
  if (name === null) return;
  setText("topic-name", name);
  setText("topic-facts", "");
  $("to").value = name;
  follow();
}

/** Loads the topic again after an interruption. */
export function reload() {
  if (topic !== null) follow();
}

/** Stops updates while the page is hidden. */
export function pause() {
  version += 1;
  disconnect();
}

/** Shows a confirmation dialog; resolves to true if the user confirms. */
function confirm(title, text, yes) {
  const dialog = $("ask");
  setText("ask-title", title);
  setText("ask-text", text);
  setText("ask-yes", yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Sends a request; resolves to the response, or shows the error and resolves to null. */
async function request(where, path, options) {
  try {
    const response = await fetch(path, options);
    const answer = await response.json();
    if (response.ok) return answer;
    setText(where, `Failed: ${answer.error}`);
  } catch {
    setText(where, "Failed: the server is unreachable.");
  }
  return null;
}

$("purge").addEventListener("click", async () => {
  const name = topic;
  const text = `${plural(facts.length, "message")} will be permanently removed, including leased and delayed ones.`;
  if (!(await confirm(`Purge “${name}”?`, text, "Purge"))) return;
  const answer = await request("done", at(name), { method: "DELETE" });
  if (!answer) return;
  setText("done", answer.purged === undefined ? "Purged." : `${plural(answer.purged, "message")} removed.`);
  reload();
});

$("stop").addEventListener("click", async () => {
  const [name, stopped] = [topic, facts.stopped];
  const text = stopped ? "Consumers will receive the messages that the topic held back." : "Consumers receive no messages until the topic is started. Take, get and subscribe keep working.";
  const verb = stopped ? "Start" : "Stop";
  if (!(await confirm(`${verb} “${name}”?`, text, verb))) return;
  const answer = await request("done", `${at(name)}/${verb.toLowerCase()}`, { method: "POST" });
  if (answer) setText("done", stopped ? "Started." : "Stopped.");
});

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = $("kind").value === "json" ? "application/json" : "text/plain; charset=utf-8";
  const options = { method: "POST", headers: { "content-type": kind }, body: $("text").value };
  setText("published", "");
  if (["", ".", ".."].includes($("to").value)) {
    setText("published", "Failed: a browser cannot address a topic of this name.");
    return;
  }
  const answer = await request("published", at($("to").value), options);
  if (answer) setText("published", `Published, id ${answer.id}.`);
});
