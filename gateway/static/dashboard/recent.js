// What failed lately, and what happened.
import { badge, byId, empty, h, keyed, setHidden, setText, short, table } from "./dom.js";
import { count, moment, shortened } from "./format.js";

const MOST = 200;
const BAD = /gone|suspect|ended|refused|crash|failed|taken back|lost/;
const GOOD = /ready|serves|done|promoted/;

const COLUMNS = [
  { label: "Last", name: "last", cell: (td, failure) => setText(td, moment(failure.last)) },
  { label: "Times", name: "count", number: true, cell: (td, failure) => setText(td, count(failure.count)) },
  { label: "Model", name: "model", cell: (td, { model, version }) => short(td, [model, shortened(version)].filter(Boolean).join(" ") || "none", `${model} ${version}`) },
  { label: "Code", name: "code", cell: (td, failure) => badge(td, failure.code, "bad") },
  { label: "Message of the last one", name: "message", cell: (td, failure) => short(td, failure.message, failure.message) },
];

let failures = null, activity = null;
let events = [];

export function showFailures(list) {
  if (!failures) {
    failures = { none: empty("No request has failed since the gateway started."), table: table(COLUMNS, { label: "Errors" }) };
    byId("failures").append(failures.none, failures.table.element);
  }
  setHidden(failures.none, list.length > 0);
  setHidden(failures.table.element, list.length === 0);
  failures.table.show(list, ({ model, version, code }) => `${model} ${version} ${code}`);
}

export function showRecent(recent) {
  showFailures(recent.failures);
  events = recent.events.map((event, at) => ({ ...event, key: `${event.at} ${recent.events.length - at} ${event.what}` }));
  showEvents();
}

export function addEvent(event) {
  events.unshift({ ...event, at: event.at ?? Date.now() / 1000, key: `${event.at} new ${Math.random()}` });
  events.length = Math.min(events.length, MOST);
  showEvents();
}

function showEvents() {
  if (!activity) {
    activity = { none: empty("Nothing has happened yet."), list: h("ol", { class: "activity card", tabindex: "0", "aria-label": "Activity" }) };
    byId("activity").append(activity.none, activity.list);
  }
  setHidden(activity.none, events.length > 0);
  setHidden(activity.list, events.length === 0);
  keyed(activity.list, events, (event) => event.key, line);
}

function line(event) {
  const { at, key, topic, what = "", id, ...rest } = event;
  const text = topic === "lost" ? `${rest.events ?? "some"} events were too many to be told` : what;
  const facts = Object.entries(topic === "lost" ? {} : rest).filter(([, value]) => value !== "" && value != null)
    .map(([name, value]) => `${name} ${typeof value === "string" ? shortened(value) : JSON.stringify(value, (_, each) => (typeof each === "number" ? Number(each.toFixed(3)) : each))}`).join(", ");
  const tone = BAD.test(text) ? "bad" : GOOD.test(text) ? "good" : "info";
  return h("li", {}, h("time", { datetime: new Date(at * 1000).toISOString() }, moment(at)),
    h("span", { class: "badge", "data-tone": tone }, text), h("span", { class: "faint" }, facts));
}
