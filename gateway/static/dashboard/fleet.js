// Every worker in a row; those that need somebody's eyes come first.
import { badge, byId, empty, h, setHidden, setText, short, table } from "./dom.js";
import { count, mib, ms, percent, plural, shortened, span } from "./format.js";

const GONE_FOR = 60_000; // ms that a worker that left is still shown
const ORDER = ["gone", "suspect", "stopping", "joining", "pending", "running", "syncing", "draining", "ready"];
const TONES = { ready: "good", gone: "bad", suspect: "bad", draining: "faint", stopping: "faint" };

const natural = new Intl.Collator("en", { numeric: true });
const rank = (worker) => ORDER.indexOf(worker.state);
const hitRate = ({ hits, misses } = { hits: 0, misses: 0 }) => (hits + misses ? hits / (hits + misses) : null);
const held = (worker) => (worker.versions ?? []).map(({ model, version }) => `${model} ${version}`);

// A figure that the worker itself says; of one that has said nothing yet there is none.
const figure = (label, name, read, shown) => {
  const of = (worker) => (worker.address?.length ? read(worker) : null);
  return { label, name, number: true, sort: of, cell: (td, worker) => setText(td, of(worker) == null ? "–" : shown(of(worker))) };
};

const COLUMNS = [
  { label: "Worker", name: "name", sort: (worker) => worker.name, cell: showName },
  { label: "State", name: "state", sort: rank, cell: showState },
  { label: "Host", name: "host", sort: (worker) => worker.host ?? "", cell: (td, worker) => setText(td, worker.host ?? "–") },
  { label: "Device", name: "device", sort: (worker) => worker.device ?? "", cell: (td, worker) => setText(td, worker.device ?? "–") },
  { label: "Models", name: "models", sort: (worker) => held(worker).join(), cell: showModels },
  { label: "In flight", name: "in-flight", number: true, sort: (worker) => worker.in_flight, cell: (td, worker) => setText(td, count(worker.in_flight)) },
  figure("Requests", "requests", (worker) => worker.count_requests_handled, count),
  figure("p50", "p50", (worker) => worker.count_requests_handled ? worker.p50 : null, ms),
  figure("p99", "p99", (worker) => worker.count_requests_handled ? worker.p99 : null, ms),
  figure("Cache hits", "cache", (worker) => hitRate(worker.cache), percent),
  figure("CPU", "cpu", (worker) => worker.cpu_percent, (value) => `${value.toFixed(0)} %`),
  figure("Memory", "memory", (worker) => worker.rss_mb, mib),
  { label: "Seen", name: "seen", number: true, sort: (worker) => worker.last_seen_s, cell: (td, worker) => setText(td, worker.last_seen_s == null ? "–" : `${span(worker.last_seen_s)} ago`) },
];

let shown = null, sorting = null, descending = false, latest = null;
const gone = new Map(); // id → the worker as it was last, with when it left
let known = new Map();

function showName(td, worker) {
  if (!td.firstElementChild) td.append(h("strong", {}), h("small", { class: "faint" }));
  setText(td.children[0], worker.name);
  setText(td.children[1], worker.pid ? ` pid ${worker.pid}` : "");
}

function showState(td, worker) {
  badge(td, worker.state, TONES[worker.state] ?? "warn");
  if (!td.children[1]) td.append(h("small", {}));
  setText(td.children[1], worker.trouble ? ` ${worker.trouble}` : "");
}

function showModels(td, worker) {
  const all = held(worker);
  const few = (worker.versions ?? []).slice(0, 2).map(({ model, version }) => `${model} ${shortened(version)}`);
  short(td, all.length ? few.join(", ") + (all.length > 2 ? ` and ${all.length - 2} more` : "") : "–", all.join("\n"));
}

// Who is in the fleet, who was ordered and is not there yet, and who has just gone.
function everybody(status) {
  const there = new Map(status.workers.map((worker) => [worker.id, worker]));
  for (const [id, worker] of known) if (!there.has(id)) gone.set(id, { ...worker, state: "gone", trouble: "", left: Date.now(), in_flight: null, cpu_percent: null });
  for (const [id, worker] of gone) {
    if (there.has(id) || Date.now() - worker.left > GONE_FOR) gone.delete(id);
    else worker.last_seen_s = known.get(id)?.last_seen_s ?? (Date.now() - worker.left) / 1000;
  }
  known = there;
  const names = new Set(status.workers.map((worker) => worker.name));
  const ordered = (status.manager?.ordered ?? []).filter((each) => !names.has(each.name))
    .map((each) => ({ ...each, id: `ordered ${each.name}`, trouble: each.why || `for ${span(each.for_s)}` }));
  return [...there.values(), ...ordered, ...gone.values()];
}

function compare(one, other) {
  const of = sorting?.sort ?? rank;
  const [a, b] = [of(one), of(other)];
  const missing = (a == null) - (b == null); // who has no figure comes last, whichever way
  if (missing) return missing;
  const order = typeof a === "string" ? natural.compare(a, b) : a - b;
  return (descending ? -order : order) || natural.compare(one.name, other.name);
}

function sortBy(column) {
  descending = sorting === column ? !descending : Boolean(column.number);
  sorting = column;
  shown.mark(column, descending);
  showFleet(latest);
}

function summarise(status, all, found) {
  const hosts = new Set(status.workers.map((worker) => worker.host)).size;
  const whole = status.workers.length ? `${plural(status.workers.length, "worker")} on ${plural(hosts, "host")}` : "";
  setText(byId("fleet-summary"), found.length < all.length ? `${found.length} of ${all.length} shown` : whole);
  const trouble = status.manager?.trouble ?? "";
  setText(byId("fleet-trouble"), trouble && `The last worker that was started failed: ${trouble}`);
  setHidden(byId("fleet-trouble"), !trouble);
}

export function showFleet(status) {
  latest = status;
  if (!shown) {
    shown = table(COLUMNS, { label: "Workers", onsort: sortBy });
    const none = empty("No workers yet. Start one on any host that reaches this gateway: ", h("code", {}, "python worker.py"),
      "; the gateway's first line of output has the addresses to give it. Or have the gateway start them: ", h("code", {}, "python gw.py --workers 2"), ".");
    byId("fleet-table").append(none, shown.element);
    byId("fleet-filter").addEventListener("input", () => showFleet(latest));
  }
  const all = everybody(status);
  const words = byId("fleet-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (worker) => [worker.name, worker.host, worker.state, worker.device, worker.pid, ...held(worker)].join(" ").toLowerCase();
  const found = words.length ? all.filter((worker) => words.every((word) => text(worker).includes(word))) : all;
  const [none, whole] = byId("fleet-table").children;
  setHidden(none, all.length > 0);
  setHidden(whole, all.length === 0);
  shown.show(found.sort(compare), (worker) => worker.id);
  summarise(status, all, found);
}
