// A form that asks a model, and shows the answer and where its time went.
import { send } from "./api.js";
import { byId, h, keyed, setHidden, setText } from "./dom.js";
import { bytes, ms, shortened } from "./format.js";

const KINDS = [
  ["vector", "Vector"],
  ["json", "JSON"],
  ["file", "File"],
  ["text", "Text"],
];
const FOR = { tensor: "vector", vector: "vector", image: "file", audio: "file", text: "text", json: "json" }; // by input type
const ACCEPT = { image: "image/*", audio: "audio/*" };
const PHASES = { queue: "waiting at the gateway", batch: "waiting at the worker", link: "on the link", infer: "in the model" };

let models = [], form = null, chosen = null;

// The models that may be asked; what somebody is filling in is left as it is.
export function offerModels(listed) {
  models = listed;
  form ??= make();
  setHidden(form.element, models.length === 0);
  setHidden(form.none, models.length > 0);
  keyed(form.model, models, ({ name }) => name, ({ name }) => h("option", { value: name }, name));
  const model = models.find(({ name }) => name === form.model.value);
  if (!model) return;
  const versions = [{ version: "", text: `active: ${shortened(model.active ?? "none")}` }, ...model.serving.map((version) => ({ version, text: shortened(version) }))];
  keyed(form.version, versions, ({ version }) => version, ({ version }) => h("option", { value: version }), (option, { text }) => setText(option, text));
  if (chosen !== model.name) {
    chosen = model.name;
    form.version.value = "";
    choose(FOR[model.input_type]);
    form.file.accept = ACCEPT[model.input_type] ?? "";
  }
}

function make() {
  const made = {
    none: h("p", { class: "empty" }, "There is no model to ask yet."),
    model: h("select", { id: "try-model", onchange: () => offerModels(models) }),
    version: h("select", { id: "try-version" }),
    vector: h("textarea", { id: "try-vector", rows: "3", spellcheck: "false" }, "0.3, 0.7"),
    json: h("textarea", { id: "try-json", rows: "6", spellcheck: "false" }, '{"vectors": [[0.3, 0.7], [0.1, 0.2]]}'),
    file: h("input", { id: "try-file", type: "file", onchange: () => preview(made) }),
    picture: h("img", { class: "preview", alt: "The chosen picture", hidden: true }),
    text: h("textarea", { id: "try-text", rows: "3" }),
    result: h("div", { class: "result", "aria-live": "polite" }),
    send: h("button", { class: "main" }, "Send"),
  };
  made.fields = {
    vector: field("Numbers; each line is a row", made.vector),
    json: field("The body", made.json),
    file: h("div", {}, field("A picture, a recording, or raw bytes", made.file), made.picture),
    text: field("Text", made.text),
  };
  made.kinds = KINDS.map(([kind, label]) => h("label", {}, h("input", { type: "radio", name: "kind", value: kind, onchange: () => choose(kind) }), label));
  made.element = h("form", { onsubmit: submit },
    h("div", { class: "pair" }, field("Model", made.model), field("Version", made.version)),
    h("fieldset", { class: "kinds" }, h("legend", {}, "Input"), made.kinds),
    Object.values(made.fields), h("div", { class: "row" }, made.send), made.result);
  byId("try-form").append(made.none, made.element);
  return made;
}

const field = (label, input) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);

function choose(kind) {
  for (const [name, element] of Object.entries(form.fields)) setHidden(element, name !== kind);
  for (const label of form.kinds) label.firstElementChild.checked = label.firstElementChild.value === kind;
}

function preview(made) {
  URL.revokeObjectURL(made.picture.src);
  const file = made.file.files[0];
  setHidden(made.picture, !file?.type.startsWith("image/"));
  if (!made.picture.hidden) made.picture.src = URL.createObjectURL(file);
}

// {route, body, type}: what the form stands for; throws a sentence where it stands for nothing.
function read(model) {
  const kind = form.kinds.map((label) => label.firstElementChild).find((input) => input.checked).value;
  const own = model.input_type;
  if (kind === "json") return { route: own === "json" ? "json" : "predict", body: form.json.value, type: "application/json" };
  if (kind === "text") return { route: "text", body: JSON.stringify({ text: form.text.value }), type: "application/json" };
  if (kind === "file") {
    const file = form.file.files[0];
    if (!file) throw new Error("Choose a file first.");
    return { route: own, body: file, type: own === "image" || own === "audio" ? file.type : "application/octet-stream" };
  }
  const rows = form.vector.value.split("\n").filter((line) => line.trim()).map((line) => line.split(/[\s,;]+/).filter(Boolean).map(Number));
  if (!rows.length || rows.flat().some(Number.isNaN)) throw new Error("A vector is numbers with commas between them: 0.3, 0.7");
  return { route: "predict", body: JSON.stringify(rows.length > 1 ? { vectors: rows } : { vector: rows[0] }), type: "application/json" };
}

async function submit(event) {
  event.preventDefault();
  const model = models.find(({ name }) => name === form.model.value);
  const version = form.version.value;
  form.send.disabled = true;
  try {
    const { route, body, type } = read(model);
    const where = `models/${encodeURIComponent(model.name)}${version && `/versions/${encodeURIComponent(version)}`}/${route}`;
    const began = performance.now();
    const response = await send(where, { method: "POST", body, headers: { ...(type && { "content-type": type }), ...(model.output_type === "image" && { accept: "image/png" }) } }, true);
    const answer = await response.blob();
    await show(response, answer, performance.now() - began);
  } catch (error) {
    form.result.replaceChildren(h("p", { class: "notice bad" }, error.message));
  } finally {
    form.send.disabled = false;
  }
}

async function show(response, answer, took) {
  const facts = [["Answered by", "x-worker"], ["Version", "x-model-version"], ["Cache", "x-cache"]]
    .map(([label, header]) => [label, response.headers.get(header)]).filter(([, value]) => value);
  form.result.replaceChildren(
    h("p", { class: "head" }, h("span", { class: "badge", "data-tone": response.ok ? "good" : "bad" }, `${response.status} ${response.statusText}`),
      h("span", { class: "faint" }, `${bytes(answer.size)} in ${ms(took)}`)),
    await bodyOf(answer),
    h("dl", { class: "facts" }, facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)))),
    timing(response.headers.get("server-timing"), took));
}

async function bodyOf(answer) {
  if (answer.type.startsWith("image/")) return h("img", { class: "preview", alt: "The answer", src: URL.createObjectURL(answer) });
  let text = await answer.text();
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch { /* shown as it came */ }
  return h("pre", { class: "answer", tabindex: "0", "aria-label": "Answer" }, text);
}

// Server-Timing as bars; what is left of the time is the network's and the browser's.
function timing(header, took) {
  if (!header) return "";
  const phases = header.split(",").map((part) => {
    const [name, ...facts] = part.trim().split(";");
    return { name: PHASES[name] ?? name, ms: Number(facts.find((fact) => fact.trim().startsWith("dur="))?.split("=")[1] ?? 0) };
  });
  const rest = took - phases.reduce((sum, phase) => sum + phase.ms, 0);
  const all = [...phases, { name: "network and browser", ms: Math.max(0, rest) }];
  const longest = Math.max(...all.map((phase) => phase.ms)) || 1;
  return h("table", { class: "timing" }, h("caption", {}, "Server-Timing"), h("tbody", {}, all.map((phase) =>
    h("tr", {}, h("th", { scope: "row" }, phase.name), h("td", { class: "number" }, ms(phase.ms)),
      h("td", {}, h("meter", { min: "0", max: longest, value: phase.ms, "aria-label": phase.name }))))));
}
