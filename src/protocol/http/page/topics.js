// The table of topics: the busiest topics that match the filter, sorted by one column.

import { $, count, element, plural, rate, setText } from "./show.js";

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

/** The topic that the fragment of an address names, or null. */
export function named(hash) {
  if (!hash.startsWith(PREFIX)) return null;
  try {
    return decodeURIComponent(hash.slice(PREFIX.length)) || null;
  } catch {
    return null;
  }
}

function link(topic) {
  const name = element("bdi", {}, topic.topic);
  return element("a", { href: address(topic.topic) }, name);
}

function state(topic) {
  return element("span", { class: topic.stopped ? "state stopped" : "state" }, topic.stopped ? "stopped" : "started");
}

function head() {
  const row = document.querySelector("#topics thead tr");
  row.replaceChildren(
    ...COLUMNS.map((column, index) => {
      const button = element("button", { type: "button" }, column.title);
      if (column.hint) button.title = column.hint;
      button.addEventListener("click", () => {
        order = { column: index, down: order.column === index ? !order.down : index > 0 };
        head();
        show(last);
      });
      const sort = order.column === index ? (order.down ? "descending" : "ascending") : "none";
      return element("th", { scope: "col", role: "columnheader", "aria-sort": sort }, button);
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

/** Updates a row in place, so that it keeps the focus. */
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
  const cells = COLUMNS.map(({ title }) => element("td", { role: "cell", "data-title": title }));
  const made = element("tr", { role: "row" }, ...cells);
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
  const none = $("filter").value ? "No topic name contains this text." : "No topics yet: the first message creates one.";
  setText("more", rest > 0 ? `${plural(rest, "less active topic")} not shown: use the filter.` : topics.length ? "" : none);
}

export function mark(topic) {
  open = topic;
  show(last);
}

head();
