// The page: shows the server's state from one event stream, one event a second, and reconnects by itself.

import * as chart from "./chart.js";
import * as nodes from "./nodes.js";
import { $, bytes, count, duration, element, plural, setText, wait } from "./show.js";
import * as topic from "./topic.js";
import * as topics from "./topics.js";

/** Milliseconds without an event after which the server counts as unreachable. */
const EVENT_TIMEOUT = 5000;
/** Milliseconds before the page connects again. */
const RECONNECT_DELAY = 1000;

const NAMES = { json: "JSON", http: "HTTP", sse: "SSE", websocket: "WebSocket" };

let source = null;
let timer = null;
let wasOffline = false;

function connect() {
  source?.close();
  const query = new URLSearchParams();
  if ($("filter").value) query.set("filter", $("filter").value);
  if (topic.opened() !== null) query.set("topic", topic.opened());
  source = new EventSource(`/api/live?${query}`);
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = showOffline;
  restartTimer();
}

function restartTimer() {
  clearTimeout(timer);
  timer = setTimeout(showOffline, EVENT_TIMEOUT);
}

function showOffline() {
  wasOffline = true;
  $("away").hidden = false;
  setText("line", "offline");
  $("line").className = "line off";
  source.close();
  clearTimeout(timer);
  timer = setTimeout(connect, RECONNECT_DELAY);
}

function showOnline() {
  $("away").hidden = true;
  setText("line", "live");
  $("line").className = "line on";
  if (wasOffline) topic.reload();
  wasOffline = false;
}

function show(snapshot) {
  restartTimer();
  showOnline();
  if (snapshot.version) setText("version", snapshot.version);
  if (snapshot.rules) showRules(snapshot.rules);
  cards(snapshot);
  nodes.show(snapshot.nodes);
  chart.show(snapshot);
  topics.show(snapshot);
  topic.tick(snapshot.open);
}

function cards(snapshot) {
  $("health").dataset.health = snapshot.health;
  setText("health-word", snapshot.health);
  setText("why", snapshot.health === "good" ? `the store answers in ${wait(snapshot.wait)}` : snapshot.why);
  setText("messages", count(snapshot.messages));
  setText("records", `stored; ${count(snapshot.puts)} received, ${count(snapshot.takes)} taken`);
  setText("store", bytes(snapshot.size));
  $("fill").hidden = snapshot.max_size === null;
  $("fill").value = snapshot.max_size ? snapshot.size / snapshot.max_size : 0;
  const dropped = snapshot.dropped ? `; ${count(snapshot.dropped)} dropped` : "";
  setText("room", (snapshot.max_size ? `in ${snapshot.store}, of ${bytes(snapshot.max_size)}` : `in ${snapshot.store}, no limit`) + dropped);
  setText("connections", count(snapshot.connections));
  setText("protocols", protocols(snapshot));
  setText("uptime", duration(snapshot.uptime));
  const waiting = snapshot.waiting ? `, ${plural(snapshot.waiting, "taker")} waiting` : "";
  setText("since", plural(snapshot.topic_count, "topic") + waiting);
}

function protocols({ protocols: counts, connections }) {
  const parts = Object.entries(counts).filter(([, open]) => open > 0);
  const silent = connections - parts.reduce((sum, [, open]) => sum + open, 0);
  const shown = parts.map(([name, open]) => `${count(open)} ${NAMES[name] ?? name}`);
  if (silent > 0) shown.push(`${count(silent)} silent`);
  return shown.join(", ");
}

function showRules(rules) {
  $("rules").replaceChildren(
    ...rules.flatMap(([word, rule]) => [element("dt", {}, word), element("dd", {}, rule)]),
  );
}

/** Opens the topic that the address names after its #. */
function open() {
  const name = topics.named(location.hash);
  if (name === topic.opened()) return;
  topic.open(name);
  topics.mark(name);
  connect();
  if (name !== null) {
    $("topic-title").focus({ preventScroll: true });
    $("topic").scrollIntoView({ block: "nearest" });
  }
}

let typing = null;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(connect, 200);
});
addEventListener("hashchange", open);

// A browser opens at most six connections to a server, so a hidden page keeps none.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    connect();
    topic.reload();
    return;
  }
  source.close();
  clearTimeout(timer);
  topic.pause();
});

open();
connect();
