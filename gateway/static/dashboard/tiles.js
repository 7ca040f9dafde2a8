// The few figures that say whether all is well.
import { byId, h, keyed, setData, setText } from "./dom.js";
import { count, ms, percent, plural, rate } from "./format.js";

let before = null;
let minute = null; // what the history says of the last one

export function noteMinute(said) {
  minute = said;
}

const make = () => h("div", { class: "tile" }, h("dt", {}), h("dd", { class: "value" }), h("dd", { class: "faint" }));

function update(element, tile) {
  const [name, value, below] = element.children;
  setText(name, tile.name);
  setText(value, tile.value);
  setText(below, tile.below);
  setData(element, "tone", tile.tone);
}

// Requests that were answered between this status and the one before, as a rate.
function rateOf(status) {
  const now = { at: performance.now() / 1000, count: status.count_requests_handled };
  const then = before;
  if (then && now.at - then.at < 0.5) return then.rate;
  now.rate = then && now.count >= then.count ? (now.count - then.count) / (now.at - then.at) : null;
  before = now;
  return now.rate;
}

function workersTile(workers) {
  const ready = workers.filter((worker) => worker.state === "ready").length;
  const others = {};
  for (const worker of workers) if (worker.state !== "ready") others[worker.state] = (others[worker.state] ?? 0) + 1;
  const below = Object.entries(others).map(([state, n]) => `${n} ${state}`).join(", ");
  return {
    name: "Workers ready", value: workers.length ? `${ready} of ${workers.length}` : "0",
    below: workers.length ? below || "all of them" : "there are none", tone: ready === 0 ? "bad" : below ? "warn" : "good",
  };
}

export function showTiles(status) {
  const workers = status.workers;
  const hits = workers.reduce((sum, { cache }) => sum + cache.hits, 0);
  const asked = workers.reduce((sum, { cache }) => sum + cache.hits + cache.misses, 0);
  const full = status.queue_requests_current / status.queue_requests_max;
  const failing = minute?.requests ? minute.failures / minute.requests : 0;
  keyed(byId("tiles"), [
    workersTile(workers),
    { name: "Requests a second", value: rate(rateOf(status)), below: `${count(status.count_requests_handled)} since the start` },
    { name: "Latency, median", value: ms(minute?.p50), below: `p99 ${ms(minute?.p99)}` },
    { name: "Failing", value: minute ? percent(failing, failing && failing < 0.1 ? 1 : 0) : "–", below: "in the last minute", tone: failing > 0.01 ? "bad" : null },
    { name: "Queue", value: count(status.queue_requests_current), below: `of ${count(status.queue_requests_max)}, peak ${count(status.queue_requests_peak)}`, tone: full > 0.5 ? "bad" : full > 0.1 ? "warn" : null },
    { name: "In progress", value: count(status.requests_in_progress), below: plural(workers.reduce((sum, worker) => sum + worker.in_flight, 0), "row") + " at workers" },
    { name: "Cache hits", value: asked ? percent(hits / asked) : "–", below: `${count(hits)} of ${count(asked)} rows` },
  ], (tile) => tile.name, make, update);
}
