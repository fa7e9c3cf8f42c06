// The chart: messages in and out per second, over the last two minutes.

import { $, rate, setText, short } from "./show.js";

/** The chart spans at least MIN_SECONDS and at most MAX_SECONDS seconds. */
const MIN_SECONDS = 30;
const MAX_SECONDS = 120;
const HEIGHT = 190;
/** Points more than this many seconds apart are not joined by a line. */
const GAP = 3.5;

let points = [];
let plot = null;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw() {
  plot?.destroy();
  const axis = {
    stroke: color("--muted"),
    font: "12px system-ui, sans-serif",
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
  };
  const series = (name, value) => ({
    label: name,
    stroke: color(value),
    fill: `${color(value)}22`,
    width: 2,
    points: { show: false },
  });
  const options = {
    width: $("chart").clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 8, 0, 0],
    scales: {
      x: { time: true, range: (_, min, max) => [Math.max(Math.min(min, max - MIN_SECONDS), max - MAX_SECONDS), max] },
      y: { range: (_, __, max) => [0, Math.max(5, max * 1.15)] },
    },
    axes: [
      { ...axis, size: 26, space: 90, values: (_, splits) => splits.map((at) => new Date(at * 1000).toLocaleTimeString([], { timeStyle: "medium" })) },
      { ...axis, size: 48, values: (_, splits) => splits.map(short) },
    ],
    series: [{}, series("in", "--in"), series("out", "--out")],
  };
  plot = new uPlot(options, data(), $("chart"));
}

function data() {
  const [at, put, out] = [[], [], []];
  for (const point of points) {
    const last = at.at(-1);
    if (last !== undefined && point[0] - last > GAP) {
      at.push(last + 1);
      put.push(null);
      out.push(null);
    }
    at.push(point[0]);
    put.push(point[1]);
    out.push(point[2]);
  }
  return [at, put, out];
}

/** Replaces all points, or appends one. */
export function show({ points: all, point }) {
  if (all) {
    points = all;
  } else if (point && point[0] !== points.at(-1)?.[0]) {
    points.push(point);
  }
  const newest = points.at(-1);
  if (!newest) return;
  points = points.filter(([at]) => at > newest[0] - MAX_SECONDS - 2);
  setText("in", `${rate(newest[1])}/s`);
  setText("out", `${rate(newest[2])}/s`);
  $("chart").dataset.points = points.length;
  if (plot) plot.setData(data());
  else draw();
}

new ResizeObserver(() => {
  const width = $("chart").clientWidth;
  if (plot && width !== plot.width) plot.setSize({ width, height: HEIGHT });
}).observe($("chart"));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot && draw());
