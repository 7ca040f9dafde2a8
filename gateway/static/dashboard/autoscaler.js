// How many workers there should be, and why.
import { act, ask } from "./api.js";
import { confirm, during } from "./dialogs.js";
import { badge, byId, empty, h, setHidden, setText, table } from "./dom.js";
import { count, moment, rate } from "./format.js";

const DECISIONS = 50;
const EVERY = 10_000; // ms: what it makes of the traffic changes without a decision

let shown = null, asked = 0, scales = null;

const COLUMNS = [
  { label: "When", name: "at", cell: (td, made) => setText(td, moment(made.at)) },
  { label: "Workers", name: "n", cell: (td, made) => setText(td, made.before === made.n ? `${made.n}` : `${made.before} → ${made.n}`) },
  { label: "Rule", name: "rule", cell: (td, made) => badge(td, made.rule, made.n > made.before ? "info" : "faint") },
  { label: "Because", name: "reason", cell: (td, made) => setText(td, made.reason + (made.paused ? " (paused: not followed)" : "")) },
  { label: "Ready", name: "ready", number: true, cell: (td, made) => setText(td, made.workers_ready) },
  { label: "Rows waiting", name: "waiting", number: true, cell: (td, made) => setText(td, count(made.rows_waiting)) },
];

function make() {
  const none = empty("This gateway starts no workers by itself. With ", h("code", {}, "python gw.py --min_workers 1 --max_workers 8"), " it does, as many as the traffic needs.");
  const facts = h("p", {});
  const button = h("button", { type: "button", onclick: () => pause(button) });
  const decisions = table(COLUMNS, { label: "Decisions" });
  const whole = h("div", { class: "stack" }, h("div", { class: "head" }, facts, button), decisions.element);
  byId("autoscaler-state").append(none, whole);
  return { none, facts, button, decisions, whole, paused: false };
}

// `manager` is what /status says of the workers that the gateway starts; `now` where something has just happened.
export async function showAutoscaler(manager, now = false) {
  shown ??= make();
  scales = Boolean(manager && manager.max_workers > 0); // else there is nothing to ask
  setHidden(shown.none, scales);
  setHidden(shown.whole, !scales);
  if (!scales || (!now && Date.now() - asked < EVERY)) return;
  asked = Date.now();
  try {
    const [autoscaler, { events }] = await Promise.all([ask("autoscaler"), ask(`autoscaler/events?limit=${DECISIONS}`)]);
    show(autoscaler, events);
  } catch { /* the feed says when nobody answers */ }
}

function show(autoscaler, events) {
  const { workers, decision, traffic, capacity } = autoscaler;
  const parts = [
    `${workers.wanted} wanted of ${autoscaler.min_workers} to ${autoscaler.max_workers}`,
    decision && `because ${decision.reason}`,
    traffic && `${rate(traffic.rows_per_second)} rows a second come`,
    capacity && `one worker can do ${rate(capacity.rows_per_second)}`,
  ];
  setText(shown.facts, `${parts.filter(Boolean).join("; ")}.`);
  shown.paused = autoscaler.paused;
  setText(shown.button, autoscaler.paused ? "Go on" : "Pause");
  setHidden(shown.decisions.element, events.length === 0);
  shown.decisions.show(events, (made) => made.number);
}

async function pause(button) {
  const paused = !shown.paused;
  const sure = !paused || await confirm("Pause the autoscaler?", "It goes on deciding, and nobody follows it: there stay as many workers as there are.", "Pause");
  if (!sure) return;
  await during(button, () => act("PUT", "autoscaler", { paused }), paused ? "The autoscaler pauses." : "The autoscaler goes on.");
  asked = 0;
}
