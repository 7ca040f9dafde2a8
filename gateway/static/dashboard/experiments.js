// Experiments: what each arm did, with the interval that each figure lies in at 95 %.
import { act, ask } from "./api.js";
import { confirm, during } from "./dialogs.js";
import { badge, byId, empty, h, keyed, setHidden, setText, table } from "./dom.js";
import { count, ms, percent, shortened } from "./format.js";

const TONES = { running: "good", tripped: "bad", promoted: "info" };
const NAMESPACE = "http://www.w3.org/2000/svg";
const none = empty("No experiments. ", h("a", { href: "docs#putExperiment" }, "PUT /experiments/{name}"), " splits a model's traffic between versions.");

const path = (name, rest = "") => `experiments/${encodeURIComponent(name)}${rest}`;

// False where none goes on: then nothing changes by itself.
export async function refreshExperiments() {
  const { experiments } = await ask("experiments");
  const reports = await Promise.all(experiments.map(({ name }) => ask(path(name))));
  const list = byId("experiments-list");
  if (!none.parentElement) list.before(none);
  setHidden(none, reports.length > 0);
  keyed(list, reports, (report) => report.name, make, update);
  return reports.some((report) => report.state === "running");
}

function make({ name }) {
  const element = h("article", { class: "experiment" },
    h("div", { class: "head" }, h("h3", {}, name), h("p", {}), h("p", { class: "faint" }),
      h("button", { type: "button", onclick: (event) => end(event.target, name) }, "End")),
    h("p", { class: "notice bad" }));
  element.arms = table(COLUMNS, { label: `Arms of ${name}` });
  element.append(element.arms.element);
  return element;
}

function update(element, report) {
  const [head, reason] = element.children;
  badge(head.children[1], report.state, TONES[report.state]);
  setText(head.children[2], `of ${report.model}; control ${shortened(report.control)}${report.sticky ? `; sticky by ${report.sticky}` : ""}${report.promoted ? `; promoted ${shortened(report.promoted)}` : ""}`);
  setHidden(head.children[3], report.state !== "running");
  setText(reason, report.reason);
  setHidden(reason, !report.reason);
  const shadows = Object.entries(report.shadows).map(([arm, figures]) => ({ arm, ...figures, shadow: true }));
  const arms = [...Object.entries(report.arms).map(([arm, figures]) => ({ arm, ...figures })), ...shadows];
  const scale = (of) => Math.max(...arms.map((arm) => of(arm).high ?? of(arm).value), 0) || 1;
  const scales = { errors: scale((arm) => arm.error_rate), p95: scale((arm) => arm.latency_ms.p95) };
  element.arms.show(arms.map((arm) => ({ ...arm, scales, report })), (arm) => (arm.shadow ? "shadow " : "") + arm.arm);
}

const range = ({ low, high }, show) => (low == null || high == null ? "too few to say" : `${show(low)} to ${show(high)}`);

// A figure, its interval in words, and both as a line with a point, drawn to one scale for all arms.
function estimate(td, figure, show, highest) {
  if (!td.firstElementChild) td.append(h("span", {}), h("small", { class: "faint" }), drawing());
  const [value, interval, picture] = td.children;
  setText(value, show(figure.value));
  setText(interval, ` ${range(figure, show)}`);
  const [line, point] = picture.children;
  const place = (number) => 3 + 94 * Math.min(1, number / highest);
  line.setAttribute("x1", place(figure.low ?? figure.value));
  line.setAttribute("x2", place(figure.high ?? figure.value));
  point.setAttribute("cx", place(figure.value));
}

function drawing() {
  const svg = document.createElementNS(NAMESPACE, "svg");
  for (const [name, value] of [["class", "interval"], ["viewBox", "0 0 100 8"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
  const line = svg.appendChild(document.createElementNS(NAMESPACE, "line"));
  const point = svg.appendChild(document.createElementNS(NAMESPACE, "circle"));
  for (const [name, value] of [["y1", 4], ["y2", 4]]) line.setAttribute(name, value);
  for (const [name, value] of [["cy", 4], ["r", 3]]) point.setAttribute(name, value);
  return svg;
}

const signed = (show) => (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${show(Math.abs(value))}`;

// Against the control: only an interval without 0 is a difference.
function showDifference(td, arm) {
  const figure = arm.difference?.latency_ms;
  if (!figure) return setText(td, arm.shadow ? "shadow" : "control");
  const sure = figure.low != null && (figure.low > 0 || figure.high < 0);
  setText(td, sure ? `${figure.value > 0 ? "slower" : "faster"}: ${range(figure, signed(ms))}` : `no difference to be seen: ${range(figure, signed(ms))}`);
}

const COLUMNS = [
  { label: "Arm", name: "arm", cell: (td, { arm }) => setText(td, shortened(arm)) },
  { label: "Share", name: "share", number: true, cell: (td, arm) => setText(td, arm.shadow ? "copies" : percent(arm.share)) },
  { label: "Requests", name: "requests", number: true, cell: (td, arm) => setText(td, count(arm.requests)) },
  { label: "Errors", name: "errors", cell: (td, arm) => estimate(td, arm.error_rate, (value) => percent(value, 1), arm.scales.errors) },
  { label: "Median", name: "p50", number: true, cell: (td, arm) => setText(td, arm.requests ? ms(arm.latency_ms.p50.value) : "–") },
  { label: "p95", name: "p95", cell: (td, arm) => estimate(td, arm.latency_ms.p95, ms, arm.scales.p95) },
  { label: "Mean latency and the control's", name: "difference", cell: showDifference },
  { label: "", name: "actions", cell: showActions },
];

function showActions(td, arm) {
  if (!td.firstElementChild) td.append(h("button", { type: "button", onclick: (event) => promote(event.target, td.arm) }, "Promote"));
  td.arm = arm;
  setHidden(td.firstElementChild, arm.shadow || arm.report.state !== "running");
  td.firstElementChild.setAttribute("aria-label", `Promote ${arm.arm}`);
}

async function promote(button, { arm, report }) {
  const sure = await confirm(`Promote ${shortened(arm)}?`, `It becomes the active version of ${report.model}, and the split ends.`, "Promote");
  if (!sure) return;
  await during(button, () => act("POST", path(report.name, "/promote"), { arm }), `${shortened(arm)} is promoted.`);
  await refreshExperiments();
}

async function end(button, name) {
  const sure = await confirm(`End ${name}?`, "The active version answers every request again.", "End", "bad");
  if (!sure) return;
  await during(button, () => act("DELETE", path(name)), `${name} has ended.`);
  await refreshExperiments();
}
