// One topic: its last messages, what can be done with it, and publishing.

import { $, bytes, count, make, plural, rate, say, time } from "./show.js";

const SHOWN = 50;
const SHOWN_LENGTH = 4096;
/** Above this nobody reads along: the last messages are looked at once a second. */
const FAST = 50;
const LARGE = 100_000;

let topic = null;
let facts = null;
let source = null;
/** Counts how often something else was opened: answers to earlier questions are late. */
let turn = 0;
let sampling = false;
let arrived = 0;

const at = (name) => `/t/${encodeURIComponent(name)}`;

export const opened = () => topic;

function message({ id, text, bytes: size }) {
  const cut = text.length > SHOWN_LENGTH || new TextEncoder().encode(text).length < size;
  const shown = text.slice(0, SHOWN_LENGTH);
  const facts = [make("time", { datetime: new Date(id / 1000).toISOString() }, time(id)), `id ${id}`, bytes(size)];
  if (cut) facts.push(make("a", { href: `${at(topic)}?since=${id - 1}&limit=1` }, "the whole message"));
  const line = make("p", { class: "note" }, ...facts.flatMap((fact, index) => (index ? [" · ", fact] : [fact])));
  const item = make("li", {}, line, make("pre", {}, cut ? `${shown}…` : shown));
  item.dataset.id = id;
  return item;
}

/** The newest are on top. */
function add(messages) {
  const list = $("messages-list");
  const newest = Number(list.firstElementChild?.dataset.id ?? 0);
  const fresh = messages.filter(({ id }) => id > newest).map(message);
  list.prepend(...fresh.reverse());
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
}

/** The last messages; null if they cannot be had, or something else was opened meanwhile. */
async function load(asked = turn) {
  const response = await fetch(`/api/topic?name=${encodeURIComponent(topic)}`);
  const answer = await response.json();
  if (asked !== turn) return null;
  if (!response.ok) {
    say("follows", answer.error);
    return null;
  }
  return answer;
}

function hangUp() {
  source?.close();
  source = null;
}

/** Shows what is there, then what comes. */
async function follow() {
  turn += 1;
  hangUp();
  sampling = false;
  const answer = await load().catch(() => null);
  if (!answer) return;
  $("messages-list").replaceChildren();
  add(answer.messages);
  if (isFast()) return sample();
  say("follows", "following");
  source = new EventSource(`${at(topic)}?since=${answer.last}`);
  source.onerror = ({ target }) => target.readyState === EventSource.CLOSED && sample();
  let waiting = [];
  source.onmessage = (event) => {
    arrived += 1;
    // Drawn together, and no more than are shown.
    if (waiting.length === 0) requestAnimationFrame(() => add(waiting.splice(0)));
    waiting.push({ id: Number(event.lastEventId), text: event.data, bytes: new Blob([event.data]).size });
    if (waiting.length > SHOWN) waiting.shift();
  };
}

const isFast = () => facts && (facts.put_rate > FAST || facts.bytes > LARGE * facts.length);

function sample() {
  hangUp();
  sampling = true;
  say("follows", "looking once a second");
}

/** Once a second, with the topic's numbers; null if there is no such topic. */
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
  if (!facts) return say("topic-facts", "There is no such topic yet: the first message makes it.");
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
  say("topic-facts", parts.join(" · "));
}

export function open(name) {
  turn += 1;
  topic = name;
  facts = null;
  hangUp();
  $("messages-list").replaceChildren();
  $("topic").hidden = name === null;
  say("done", "");
  say("follows", "");
  if (name === null) return;
  say("topic-name", name);
  say("topic-facts", "");
  $("to").value = name;
  follow();
}

/** After the server was away: what it has now may be something else. */
export function again() {
  if (topic !== null) follow();
}

/** Nobody looks. */
export function rest() {
  turn += 1;
  hangUp();
}

/** Asks first; resolves to whether the answer is yes. */
function ask(title, text, yes) {
  const dialog = $("ask");
  say("ask-title", title);
  say("ask-text", text);
  say("ask-yes", yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Carries it out; resolves to the answer, or says what went wrong. */
async function request(where, path, options) {
  try {
    const response = await fetch(path, options);
    const answer = await response.json();
    if (response.ok) return answer;
    say(where, `Not done: ${answer.error}`);
  } catch {
    say(where, "Not done: the server is away.");
  }
  return null;
}

$("purge").addEventListener("click", async () => {
  const name = topic;
  const text = `${plural(facts.length, "message")} will be removed for good, also those that workers hold or that are delayed.`;
  if (!(await ask(`Purge “${name}”?`, text, "Purge"))) return;
  const answer = await request("done", at(name), { method: "DELETE" });
  if (!answer) return;
  say("done", answer.purged === undefined ? "Purged." : `${plural(answer.purged, "message")} removed.`);
  again();
});

$("stop").addEventListener("click", async () => {
  const [name, stopped] = [topic, facts.stopped];
  const text = stopped ? "Its consumers will receive the messages that it held." : "It will hold its messages from consumers until it is started. Take, get and subscribe go on.";
  const verb = stopped ? "Start" : "Stop";
  if (!(await ask(`${verb} “${name}”?`, text, verb))) return;
  const answer = await request("done", `${at(name)}/${verb.toLowerCase()}`, { method: "POST" });
  if (answer) say("done", stopped ? "Started." : "Stopped.");
});

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const kind = $("kind").value === "json" ? "application/json" : "text/plain; charset=utf-8";
  const options = { method: "POST", headers: { "content-type": kind }, body: $("text").value };
  say("published", "");
  if (["", ".", ".."].includes($("to").value)) {
    say("published", "Not done: a browser cannot address a topic of this name.");
    return;
  }
  const answer = await request("published", at($("to").value), options);
  if (answer) say("published", `Published, id ${answer.id}.`);
});
