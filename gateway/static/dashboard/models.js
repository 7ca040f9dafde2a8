// Models and their versions: which one answers, and a button for each that could.
import { act, ask } from "./api.js";
import { confirm, during } from "./dialogs.js";
import { badge, byId, empty, h, keyed, setHidden, setText, short, table } from "./dom.js";
import { ago, bytes, plural, shortened } from "./format.js";

const none = empty("No models yet. ", h("code", {}, "python gw.py deploy FILE"), " serves one, and so does an upload: ",
  h("a", { href: "docs#uploadVersion" }, "PUT /models/{model}/versions/{version}"), ".");

const path = (model, rest = "") => `models/${encodeURIComponent(model)}${rest}`;

// Every model, as `/models` lists it.
export async function refreshModels() {
  const { models } = await ask("models");
  const list = byId("models-list");
  if (!none.parentElement) list.before(none);
  setHidden(none, models.length > 0);
  setHidden(list, models.length === 0);
  keyed(list, models, (model) => model.name, make, update);
  await Promise.all([...list.children].filter((each) => each.open).map((each) => fill(each)));
  return models;
}

function make(model) {
  const summary = h("summary", {}, h("strong", {}), h("span", { class: "active" }), h("small", { class: "faint" }));
  const element = h("details", { "data-model": model.name, ontoggle: () => element.open && fill(element) }, summary, h("div", { class: "inside" }));
  return element;
}

function update(element, model) {
  const [name, active, more] = element.firstElementChild.children;
  setText(name, model.name);
  if (model.active) badge(active, shortened(model.active), "good");
  else badge(active, "no active version", "warn");
  short(active, active.textContent, model.active);
  const kinds = model.input_type === "tensor" && model.output_type === "raw" ? "" : `${model.input_type} to ${model.output_type}, `;
  setText(more, `${kinds}${plural(model.serving.length, "version")} served`);
}

async function fill(element) {
  const name = element.dataset.model;
  const shown = await ask(path(name));
  const inside = element.lastElementChild;
  if (!inside.versions) {
    inside.versions = table(COLUMNS, { label: `Versions of ${name}` });
    inside.back = h("button", { type: "button", onclick: () => rollBack(inside.back, name, element) });
    inside.append(inside.versions.element, h("div", { class: "row" }, inside.back));
  }
  setText(inside.back, `Roll back to ${shortened(shown.previous ?? "")}`);
  inside.back.dataset.version = shown.previous ?? "";
  setHidden(inside.back, !shown.previous);
  const versions = shown.versions.map((version) => ({ ...version, model: name, active: version.version === shown.active, element }));
  inside.versions.show(versions.reverse(), (version) => version.version);
}

const COLUMNS = [
  { label: "Version", name: "version", cell: (td, { version }) => short(td, shortened(version), version) },
  { label: "State", name: "state", cell: showState },
  { label: "Size", name: "size", number: true, cell: (td, version) => setText(td, bytes(version.size)) },
  { label: "Uploaded", name: "created", cell: (td, version) => setText(td, ago(version.created)) },
  { label: "Held by", name: "workers", cell: (td, { workers }) => short(td, plural(workers.length, "worker"), workers.join(", ")) },
  { label: "", name: "actions", cell: showActions },
];

function showState(td, version) {
  const state = version.active ? "active" : version.serves ? "serves" : "kept";
  badge(td, state, { active: "good", serves: "info", kept: "faint" }[state]);
  if (!td.children[1]) td.append(h("small", { class: "bad" }));
  const refused = Object.entries(version.refused);
  setText(td.children[1], refused.length ? ` refused by ${refused.map(([worker, why]) => `${worker}: ${why}`).join("; ")}` : "");
}

function showActions(td, version) {
  if (!td.firstElementChild) {
    td.append(h("button", { type: "button", onclick: (event) => activate(event.target, td.version) }, "Activate"));
  }
  td.version = version;
  setHidden(td.firstElementChild, version.active);
  td.firstElementChild.setAttribute("aria-label", `Activate ${version.version}`);
}

async function activate(button, { model, version, element }) {
  const sure = await confirm(`Activate ${shortened(version)}?`, `From then on it answers every request to ${model} that names no version.`, "Activate");
  if (!sure) return;
  await during(button, () => act("POST", path(model, "/activate"), { version }), `${shortened(version)} of ${model} is active.`);
  await Promise.all([refreshModels(), fill(element)]);
}

async function rollBack(button, model, element) {
  const version = button.dataset.version;
  const sure = await confirm(`Roll ${model} back?`, `${shortened(version)}, which was active before, answers again.`, "Roll back", "bad");
  if (!sure) return;
  await during(button, () => act("POST", path(model, "/rollback")), `${model} is back at ${shortened(version)}.`);
  await Promise.all([refreshModels(), fill(element)]);
}
