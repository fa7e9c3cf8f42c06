// The nodes of a remote store, one line each.

import { $, bytes, count, duration, element, plural, wait } from "./show.js";

export function show(nodes) {
  $("nodes").hidden = nodes.length === 0;
  document.querySelector("#nodes ul").replaceChildren(...nodes.map((node) => line(node, nodes.length > 1)));
}

function line(node, isOneOfSeveral) {
  const away = node.away_seconds !== null;
  const facts = away ? [`unreachable for ${duration(node.away_seconds)} (${node.away_why})`] : reachable(node);
  if (isOneOfSeveral) facts.push(plural(node.parts.length, "partition"));
  const late = node.news_lag_seconds;
  if (late !== null && !away) facts.push(`changes by other servers delayed by ${count(late)} s`);
  return element("li", away || late !== null ? { class: "bad" } : {}, `${node.address}: ${facts.join(", ")}`);
}

function reachable(node) {
  const facts = [`answers in ${wait(node.round_trip_us / 1e6)}`];
  if (node.replicas > 0) facts.push(`${plural(node.replicas, "replica")}, ${lag(node)}`);
  return facts;
}

/** Replicas report their position once a second. */
const lag = ({ replica_lag_seconds: seconds, replica_lag_bytes: behind }) =>
  seconds > 2 ? `silent for ${count(seconds)} s` : `${bytes(behind)} behind`;
