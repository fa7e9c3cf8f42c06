// The table of topics: the busiest that match the filter, in the order of a column.

import { $, count, make, plural, rate, say } from "./show.js";

const COLUMNS = [
  { title: "Topic", of: (t) => t.topic, show: link },
  { title: "Length", of: (t) => t.length, show: (t) => count(t.length) },
  { title: "In/s", of: (t) => t.put_rate, show: (t) => rate(t.put_rate), hint: "put, over 10 s" },
  { title: "Taken/s", of: (t) => t.take_rate, show: (t) => rate(t.take_rate), hint: "over 10 s" },
  { title: "Consumers", of: (t) => t.consumers, show: (t) => count(t.consumers), hint: "and subscriptions" },
  { title: "Policy", of: (t) => t.policy ?? "", show: (t) => t.policy ?? "–" },
  { title: "State", of: (t) => t.stopped, show: state },
];

let order = { column: 0, down: false };
let last = { topics: [], matching: 0 };
let open = null;

const PREFIX = "#topic=";
const address = (topic) => PREFIX + encodeURIComponent(topic);

/** The topic that an address names behind its #, or null. */
export function named(hash) {
  if (!hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(hash.slice(PREFIX.length)) || null;
  } catch {
    return null;
  }
}

function link(topic) {
  const name = make("bdi", {}, topic.topic);
  return make("a", { href: address(topic.topic) }, name);
}

function state(topic) {
  return make("span", { class: topic.stopped ? "state stopped" : "state" }, topic.stopped ? "stopped" : "started");
}

function head() {
  const row = document.querySelector("#topics thead tr");
  row.replaceChildren(
    ...COLUMNS.map((column, index) => {
      const button = make("button", { type: "button" }, column.title);
      if (column.hint) button.title = column.hint;
      button.addEventListener("click", () => {
        order = { column: index, down: order.column === index ? !order.down : index > 0 };
        head();
        show(last);
      });
      const sort = order.column === index ? (order.down ? "descending" : "ascending") : "none";
      return make("th", { scope: "col", role: "columnheader", "aria-sort": sort }, button);
    }),
  );
}

function sorted(topics) {
  const { of } = COLUMNS[order.column];
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return [...topics].sort((a, b) => {
    const by = compare(of(a), of(b)) * (order.down ? -1 : 1);
    return by || compare(a.topic, b.topic);
  });
}

/** A row is made once and filled again: whoever has the focus keeps it. */
function fill(row, topic) {
  row.classList.toggle("open", topic.topic === open);
  COLUMNS.forEach((column, index) => {
    const cell = row.cells[index];
    const shown = column.show(topic);
    const text = shown.textContent ?? shown;
    if (cell.textContent !== text) cell.replaceChildren(shown);
  });
  return row;
}

function row(topic) {
  const cells = COLUMNS.map(({ title }) => make("td", { role: "cell", "data-title": title }));
  const made = make("tr", { role: "row" }, ...cells);
  made.dataset.topic = topic;
  return made;
}

export function show({ topics, matching }) {
  last = { topics, matching };
  const body = document.querySelector("#topics tbody");
  const rows = new Map([...body.rows].map((row) => [row.dataset.topic, row]));
  const wanted = sorted(topics).map((topic) => fill(rows.get(topic.topic) ?? row(topic.topic), topic));
  if (wanted.length !== body.rows.length || wanted.some((row, index) => row !== body.rows[index])) {
    const focused = document.activeElement;
    body.replaceChildren(...wanted);
    if (body.contains(focused)) focused.focus();
  }
  $("topics").hidden = topics.length === 0;
  const rest = matching - topics.length;
  const none = $("filter").value ? "No topic's name holds this." : "There is no topic yet: the first message makes one.";
  say("more", rest > 0 ? `And ${plural(rest, "topic")} in which less happens: filter to see them.` : topics.length ? "" : none);
}

export function mark(topic) {
  open = topic;
  show(last);
}

head();
