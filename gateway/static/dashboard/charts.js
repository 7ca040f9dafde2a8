// The last hour: uPlot draws what the history says, in the colours of the style sheet.
import { byId, h, setText } from "./dom.js";
import { count, ms, rate } from "./format.js";
import { noteMinute } from "./tiles.js";

const HOUR = 3600;
const MINUTE = 12; // steps
const LEAST = 600; // seconds that are shown of a young gateway
const COLUMNS = ["at", "requests_per_second", "failures_per_second", "p50", "p99", "queue_requests", "requests_in_progress"];
const CHARTS = [
  { name: "Requests a second", show: rate, lines: [["all", "requests_per_second", "c0"], ["failed", "failures_per_second", "c6"]] },
  { name: "Latency", show: (value) => ms(value), lines: [["median", "p50", "c2"], ["p99", "p99", "c1"]] },
  { name: "Requests in the gateway", show: count, steps: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000], lines: [["waiting", "queue_requests", "c4"], ["in progress", "requests_in_progress", "c3"]] },
];
const columns = Object.fromEntries(COLUMNS.map((name) => [name, []]));
let charts = null;

export function addHistory(data) {
  const from = data.at.findIndex((at) => at > (columns.at.at(-1) ?? 0));
  if (from >= 0) for (const name of COLUMNS) columns[name].push(...data[name].slice(from));
  const old = columns.at.findIndex((at) => at > (columns.at.at(-1) ?? 0) - HOUR);
  if (old > 0) for (const name of COLUMNS) columns[name].splice(0, old);
  if (columns.at.length) noteMinute(lastMinute());
  charts ??= CHARTS.map(make);
  charts.forEach(draw);
}

// What the last minute was like: its mean rates, and the last latencies that there were in it.
function lastMinute() {
  const [, requests, failures, p50, p99] = COLUMNS.map((name) => columns[name].slice(-MINUTE));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const last = (values) => values.findLast((value) => value != null);
  return { requests: mean(requests), failures: mean(failures), p50: last(p50), p99: last(p99) };
}

// The colours are the style sheet's, also where it says two for light and dark: an element knows which one it is.
function colourOf(name) {
  const probe = byId("charts").appendChild(h("i", { class: name }));
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function make(chart) {
  const plot = h("div", { class: "plot", role: "img" });
  const now = h("p", { class: "faint" });
  byId("charts").append(h("figure", { class: "card" }, h("figcaption", {}, h("h3", {}, chart.name), now), plot));
  const made = { ...chart, plot, now, drawn: null };
  new ResizeObserver(() => made.drawn?.setSize(sizeOf(plot))).observe(plot);
  document.addEventListener("theme", () => {
    made.drawn?.destroy();
    made.drawn = null;
    draw(made);
  });
  return made;
}

const sizeOf = (plot) => ({ width: Math.max(200, plot.clientWidth), height: 180 });

function optionsOf(made) {
  const axis = { stroke: colourOf("faint"), grid: { stroke: colourOf("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    ...sizeOf(made.plot),
    padding: [8, 20, 0, 0],
    cursor: { sync: { key: "hour" }, points: { size: 7 }, drag: { x: false, y: false } },
    legend: { live: true },
    scales: {
      x: { range: (_, low, high) => [Math.min(low, high - LEAST), high] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    axes: [
      { ...axis, space: 70, size: 28, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })) },
      { ...axis, size: 62, space: 36, ...(made.steps && { incrs: made.steps }), values: (_, ticks) => ticks.map((value) => made.show(value)) },
    ],
    series: [
      { label: "at", value: (_, at) => (at == null ? "" : new Date(at * 1000).toLocaleTimeString("en-GB")) },
      ...made.lines.map(([label, , colour], at) => ({
        label, stroke: colourOf(colour), width: 1.75, fill: at === 0 && made.lines[1][2] === "c6" ? colourOf("fill") : undefined,
        points: { size: 5, filter: alone }, value: (_, value) => made.show(value),
      })),
    ],
  };
}

// The values between two gaps, which no line reaches: they are points.
function alone(plot, series) {
  const values = plot.data[series];
  const found = [...values.keys()].filter((at) => values[at] != null && values[at - 1] == null && values[at + 1] == null);
  return found.length ? found : null;
}

function draw(made) {
  const data = [columns.at, ...made.lines.map(([, name]) => columns[name])];
  const latest = made.lines.map(([label, name]) => `${label} ${made.show(columns[name].at(-1))}`).join(", ");
  setText(made.now, columns.at.length > 1 ? latest : "It begins in a few seconds.");
  const highest = made.lines.map(([label, name]) => `${label} ${made.show(Math.max(0, ...columns[name]))}`).join(", ");
  made.plot.setAttribute("aria-label", `${made.name} over the last hour. Now: ${latest}. Highest: ${highest}.`);
  if (made.drawn) made.drawn.setData(data);
  else if (columns.at.length > 1) made.drawn = new uPlot(optionsOf(made), data, made.plot);
}
