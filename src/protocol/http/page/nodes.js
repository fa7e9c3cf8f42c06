// The nodes of a store that is elsewhere: a line each, under the cards.

import { $, bytes, count, duration, make, plural, wait } from "./show.js";

export function show(nodes) {
  $("nodes").hidden = nodes.length === 0;
  document.querySelector("#nodes ul").replaceChildren(...nodes.map((node) => line(node, nodes.length > 1)));
}

function line(node, isOneOfSeveral) {
  const away = node.away_seconds !== null;
  const said = away ? [`away for ${duration(node.away_seconds)} (${node.away_why})`] : here(node);
  if (isOneOfSeveral) said.push(plural(node.parts.length, "part"));
  const late = node.news_lag_seconds;
  if (late !== null && !away) said.push(`its news is ${count(late)} s late`);
  return make("li", away || late !== null ? { class: "bad" } : {}, `${node.address}: ${said.join(", ")}`);
}

function here(node) {
  const said = [`answers in ${wait(node.round_trip_us / 1e6)}`];
  if (node.replicas > 0) said.push(`${plural(node.replicas, "replica")}, ${lag(node)}`);
  return said;
}

/** Replicas say once a second how far they are. */
const lag = ({ replica_lag_seconds: seconds, replica_lag_bytes: behind }) =>
  seconds > 2 ? `silent for ${count(seconds)} s` : `${bytes(behind)} behind`;
