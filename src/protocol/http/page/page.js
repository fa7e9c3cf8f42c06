// The page: one stream tells it everything, once a second, and it comes back by itself.

import * as chart from "./chart.js";
import * as nodes from "./nodes.js";
import { $, bytes, count, duration, make, plural, say, wait } from "./show.js";
import * as topic from "./topic.js";
import * as topics from "./topics.js";

/** No news for so long: the server is away, whatever the connection says. */
const PATIENCE = 5000;
const AGAIN = 1000;

const NAMES = { json: "JSON", http: "HTTP", sse: "SSE", websocket: "WebSocket" };

let source = null;
let silence = null;
let wasAway = false;

function listen() {
  source?.close();
  const query = new URLSearchParams();
  if ($("filter").value) query.set("filter", $("filter").value);
  if (topic.opened() !== null) query.set("topic", topic.opened());
  source = new EventSource(`/api/live?${query}`);
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = away;
  hear();
}

function hear() {
  clearTimeout(silence);
  silence = setTimeout(away, PATIENCE);
}

function away() {
  wasAway = true;
  $("away").hidden = false;
  say("line", "away");
  $("line").className = "line off";
  source.close();
  clearTimeout(silence);
  silence = setTimeout(listen, AGAIN);
}

function back() {
  $("away").hidden = true;
  say("line", "live");
  $("line").className = "line on";
  if (wasAway) topic.again();
  wasAway = false;
}

function show(told) {
  hear();
  back();
  if (told.version) say("version", told.version);
  if (told.rules) showRules(told.rules);
  cards(told);
  nodes.show(told.nodes);
  chart.show(told);
  topics.show(told);
  topic.tick(told.open);
}

function cards(told) {
  $("health").dataset.health = told.health;
  say("health-word", told.health);
  say("why", told.health === "good" ? `the store answers in ${wait(told.wait)}` : told.why);
  say("messages", count(told.messages));
  say("records", `kept; ${count(told.puts)} received, ${count(told.takes)} taken`);
  say("store", bytes(told.size));
  $("fill").hidden = told.max_size === null;
  $("fill").value = told.max_size ? told.size / told.max_size : 0;
  const dropped = told.dropped ? `; ${count(told.dropped)} dropped` : "";
  say("room", (told.max_size ? `in ${told.store}, of ${bytes(told.max_size)}` : `in ${told.store}, no bound`) + dropped);
  say("connections", count(told.connections));
  say("protocols", protocols(told));
  say("uptime", duration(told.uptime));
  const waiting = told.waiting ? `, ${plural(told.waiting, "taker")} in line` : "";
  say("since", plural(told.topic_count, "topic") + waiting);
}

function protocols({ protocols: spoken, connections }) {
  const parts = Object.entries(spoken).filter(([, open]) => open > 0);
  const silent = connections - parts.reduce((sum, [, open]) => sum + open, 0);
  const shown = parts.map(([name, open]) => `${count(open)} ${NAMES[name] ?? name}`);
  if (silent > 0) shown.push(`${count(silent)} silent`);
  return shown.join(", ");
}

function showRules(rules) {
  $("rules").replaceChildren(
    ...rules.flatMap(([word, rule]) => [make("dt", {}, word), make("dd", {}, rule)]),
  );
}

/** The topic that is open stands behind the # of the address. */
function open() {
  const name = topics.named(location.hash);
  if (name === topic.opened()) return;
  topic.open(name);
  topics.mark(name);
  listen();
  if (name !== null) {
    $("topic-title").focus({ preventScroll: true });
    $("topic").scrollIntoView({ block: "nearest" });
  }
}

let typing = null;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(listen, 200);
});
addEventListener("hashchange", open);

// A browser opens six connections to a server at most: a page that nobody sees holds none.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    listen();
    topic.again();
    return;
  }
  source.close();
  clearTimeout(silence);
  topic.rest();
});

open();
listen();
