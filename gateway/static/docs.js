// Shows openapi.json: every operation with what it takes and answers, and a form that asks this very gateway.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
let openapi;

// h("a", {href: "#"}, "text", element, …): an element. Text is never read as HTML.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// `code` between backticks is all the markdown that the document has.
function prose(text) {
  return (text ?? "").split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

const breakable = (path) => h("code", { class: "path" }, path.split(/(?=\/)/).map((part) => [part, h("wbr")]));

function resolve(node) {
  if (!node?.$ref) return node ?? {};
  const found = node.$ref.slice(2).split("/").reduce((at, key) => at[key], openapi);
  const { $ref, ...beside } = node;
  return { ...found, ...beside };
}

// --- schemas

// What a field may be; null is left unsaid where it is what a field is that nobody gives.
const choices = (schema) => (schema.anyOf ?? []).map(resolve)
  .filter((each) => each.type !== "null" || schema.default !== null);

// What a schema is in a few words: "list of number or null".
function typeOf(node) {
  const schema = resolve(node);
  if (schema.anyOf) return choices(schema).map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") {
    const items = schema.items ? typeOf(schema.items) : schema.prefixItems ? "values" : "anything";
    return `list of ${items}`;
  }
  if (schema.type === "object" && !schema.properties) {
    const values = schema.additionalProperties;
    return values && values !== true ? `object of ${typeOf(values)}` : "object";
  }
  return schema.type ?? "anything";
}

function limits(schema) {
  const said = [];
  for (const each of [schema, ...choices(schema)]) {
    if (each.minimum != null) said.push(`≥ ${each.minimum}`);
    if (each.exclusiveMinimum != null) said.push(`> ${each.exclusiveMinimum}`);
    if (each.maximum != null) said.push(`≤ ${each.maximum}`);
    if (each.pattern && !each.description && !schema.description) said.push(`matches ${each.pattern}`);
  }
  if (schema.default != null && schema.default !== "") said.push(`default ${JSON.stringify(schema.default)}`);
  return said.join(", ");
}

// The schema whose fields are worth showing below: an object's own, or those of its elements or values.
function inner(node) {
  const schema = resolve(node);
  if (schema.properties) return schema;
  const next = [schema.items, schema.additionalProperties, ...choices(schema)];
  for (const each of next) {
    const found = each && typeof each === "object" ? inner(each) : null;
    if (found) return found;
  }
  return null;
}

// Whoever asks has to know what is required; of what is answered, what may be missing.
function fields(node, { answered = false, depth = 0 } = {}) {
  const schema = inner(node);
  if (!schema || depth > 6) return null;
  return h("ul", { class: "fields" }, Object.entries(schema.properties).map(([name, value]) => {
    const is = resolve(value);
    const below = fields(value, { answered, depth: depth + 1 });
    const wide = below && below.children.length > 8;
    return h("li", {},
      h("code", {}, name), " ",
      h("span", { class: "type" }, [typeOf(value), limits(is)].filter(Boolean).join(", ")), " ",
      !answered && schema.required?.includes(name) && h("span", { class: "required" }, "required"),
      answered && !schema.required?.includes(name) && h("span", { class: "type" }, "may be missing"),
      is.description && h("span", { class: "said" }, prose(is.description)),
      wide ? h("details", { class: "more" }, h("summary", {}, `its ${below.children.length} fields`), below) : below);
  }));
}

// A body in each of its shapes.
function body(media, answered) {
  const shapes = media.schema?.anyOf ?? [media.schema];
  return shapes.map((shape, i) => [
    i > 0 && h("p", { class: "type" }, "or"),
    resolve(shape)?.description && h("p", { class: "said" }, prose(resolve(shape).description)),
    fields(shape, { answered }) ?? h("p", { class: "type" }, Object.keys(shape ?? {}).length ? typeOf(shape) : "bytes"),
  ]);
}

// --- what an operation takes and answers

function parameters(operation) {
  if (!operation.parameters) return null;
  return [h("h3", {}, "Parameters"), h("ul", { class: "fields" }, operation.parameters.map((each) =>
    h("li", {},
      h("code", {}, each.name), " ",
      h("span", { class: "type" }, [`in ${each.in}`, typeOf(each.schema), limits(each.schema)].filter(Boolean).join(", ")),
      " ", each.required && h("span", { class: "required" }, "required"),
      h("span", { class: "said" }, prose(each.description)))))];
}

function answers(operation) {
  const all = Object.entries(operation.responses).map(([status, response]) => [status, resolve(response)]);
  const good = all.filter(([status]) => status < 400);
  const bad = all.filter(([status]) => status >= 400);
  return [
    h("h3", {}, "Answers"),
    good.map(([status, response]) => h("div", { class: "answer" },
      h("span", { class: "status ok" }, status), " ", prose(response.description),
      headers(response),
      Object.entries(response.content ?? {}).map(([type, media]) =>
        h("details", { class: "more", open: type === "application/json" }, h("summary", {}, type), body(media, true))))),
    h("details", { class: "more answer" },
      h("summary", {}, `${bad.length} ways to be refused`),
      bad.map(([status, response]) => h("div", {},
        h("span", { class: "status no" }, status), " ", prose(response.description), headers(response))),
      body(Object.values(bad[0][1].content)[0], true)),
  ];
}

function headers(response) {
  if (!response.headers) return null;
  return h("ul", { class: "fields" }, Object.entries(response.headers).map(([name, header]) =>
    h("li", {}, h("code", {}, name), " ", h("span", { class: "type" }, prose(header.description)))));
}

// --- asking

// A form for one operation. `read()` is the request that it stands for.
function asking(method, path, operation) {
  const inputs = (operation.parameters ?? []).map((each) => ({
    ...each,
    input: h("input", { class: "value", name: each.name, value: each.in === "path" && each.example, placeholder: each.example }),
  }));
  const content = Object.entries(operation.requestBody?.content ?? {})[0];
  const sent = content ? payload(...content) : null;
  const line = h("pre", { class: "curl" });
  const result = h("div", { "aria-live": "polite" });

  function read() {
    let target = path, query = new URLSearchParams(), named = {};
    for (const { name, in: place, input } of inputs) {
      if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(input.value));
      else if (input.value && place === "query") query.set(name, input.value);
      else if (input.value) named[name] = input.value;
    }
    const url = new URL(`.${target}`, document.baseURI);
    url.search = query;
    return { url, method: method.toUpperCase(), headers: named, ...sent?.read() };
  }

  // The token stays out of what is shown, and so of what is copied and logged.
  const bearer = () => (token() ? { authorization: `Bearer ${token()}` } : {});

  function show() {
    const { url, method, headers, flags = [] } = read();
    const words = ["curl", method === "GET" || (method === "POST" && flags[0] === "-d") ? [] : ["-X", method],
      quote(url.href), Object.entries(headers).map(([name, value]) => ["-H", quote(`${name}: ${value}`)]),
      token() ? ["-H", '"Authorization: Bearer $PIPELINE_TOKEN"'] : [], flags];
    line.textContent = words.flat(2).join(" ");
  }

  async function send(event) {
    event.preventDefault();
    result.replaceChildren(h("p", { class: "type" }, "Asking …"));
    const { url, flags, ...request } = read();
    const began = performance.now();
    try {
      const response = await fetch(url, { ...request, headers: { ...request.headers, ...bearer() } });
      const text = await response.text();
      result.replaceChildren(told(response, text, performance.now() - began));
    } catch (error) {
      result.replaceChildren(h("p", { class: "no" }, String(error)));
    }
  }

  const form = h("form", { oninput: show, onchange: show, onsubmit: send },
    inputs.map((each) => h("label", {}, h("code", {}, each.name), each.input)),
    sent?.inputs, line,
    h("div", { class: "row" },
      h("button", { class: "send" }, "Send"),
      h("button", { type: "button", onclick: () => navigator.clipboard?.writeText(line.textContent) }, "Copy")),
    result);
  document.addEventListener("token", show);
  show();
  return [h("h3", {}, "Try it"), form];
}

const token = () => sessionStorage.getItem("pipeline-token") ?? "";

const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// How a body of this media type is given: {inputs: elements, read: () => ({body, flags for curl})}.
function payload(type, media) {
  if (type === "application/octet-stream") return fromFile();
  if (type === "multipart/form-data") return fromForm(media);
  const shown = Object.entries(media.examples ?? {});
  const area = h("textarea", { "aria-label": "Body", spellcheck: "false" });
  const choose = (key) => { area.value = JSON.stringify(media.examples?.[key]?.value ?? {}, null, 1).replace(/\n\s*/g, " "); };
  if (shown.length) choose(shown[0][0]);
  const select = shown.length > 1 && h("select", { "aria-label": "Example", onchange: (event) => choose(event.target.value) },
    shown.map(([key]) => h("option", {}, key)));
  const read = () => area.value.trim() ? { body: area.value, flags: ["-d", quote(area.value)] } : {};
  return { inputs: [select, area], read };
}

function fromFile() {
  const file = h("input", { type: "file", "aria-label": "File" });
  return {
    inputs: [h("label", {}, h("code", {}, "file"), file)],
    read: () => ({ body: file.files[0], flags: ["-T", quote(file.files[0]?.name ?? "FILE")] }),
  };
}

function fromForm(media) {
  const parts = Object.entries(resolve(media.schema).properties).map(([name, schema]) => {
    const type = media.encoding?.[name]?.contentType;
    const input = h("input", { type: type ? "file" : "text", class: "value", value: type ? null : schema.examples?.[0] });
    return { name, type, input };
  });
  return {
    inputs: parts.map(({ name, input }) => h("label", {}, h("code", {}, name), input)),
    read() {
      const form = new FormData();
      const flags = [];
      for (const { name, type, input } of parts) {
        const file = input.files?.[0];
        if (type && file) form.append(name, new Blob([file], { type }), file.name);
        else if (!type) form.append(name, input.value);
        flags.push("-F", quote(type ? `${name}=@${file?.name ?? "FILE"};type=${type}` : `${name}=${input.value}`));
      }
      return { body: form, flags };
    },
  };
}

function told(response, text, took) {
  const kind = response.headers.get("content-type") ?? "";
  let shown = text;
  if (kind.startsWith("application/json")) {
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
  }
  const named = [...response.headers].filter(([name]) => /^(x-|server-timing|retry-after|etag|allow|content-type)/.test(name));
  return h("div", {},
    h("p", {}, h("span", { class: response.ok ? "status ok" : "status no" }, String(response.status)), ` ${response.statusText}, ${took.toFixed(0)} ms`),
    h("pre", {}, named.map(([name, value]) => `${name}: ${value}`).join("\n")),
    h("pre", {}, shown));
}

// --- the page

function section(tag, operations) {
  return h("section", {}, h("h2", { id: tag.name }, tag.name), h("p", { class: "about" }, prose(tag.description)),
    operations.map(({ method, path, operation }) => {
      const inside = h("div", { class: "inside" });
      const fill = () => {
        if (inside.childElementCount) return;
        const taken = Object.entries(operation.requestBody?.content ?? {});
        inside.append(h("div", {},
          operation.description && h("p", {}, prose(operation.description)),
          parameters(operation),
          taken.map(([type, media]) => [h("h3", {}, "Body ", h("span", { class: "note" }, type)), body(media)]),
          asking(method, path, operation),
          answers(operation),
        ));
      };
      return h("details", { class: "operation", id: operation.operationId, ontoggle: fill },
        h("summary", {}, h("span", { class: `method ${method}` }, method), breakable(path),
          h("span", { class: "what" }, prose(operation.summary))),
        inside);
    }));
}

function contents(tag, operations) {
  return [h("h2", {}, tag.name), operations.map(({ method, path, operation }) =>
    h("a", { href: `#${operation.operationId}`, title: operation.summary },
      h("span", { class: `method ${method}` }, method), breakable(path)))];
}

function find(text) {
  const words = text.toLowerCase().split(/\s+/);
  const fits = (element) => words.every((word) => element.textContent.toLowerCase().includes(word));
  for (const each of document.querySelectorAll("details.operation")) {
    each.hidden = !fits(each.querySelector("summary"));
    document.querySelector(`nav a[href="#${each.id}"]`).hidden = each.hidden;
  }
  for (const each of document.querySelectorAll("section")) each.hidden = !each.querySelector("details.operation:not([hidden])");
}

function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

function keepToken() {
  const given = document.getElementById("token");
  given.value = token();
  given.addEventListener("input", () => {
    sessionStorage.setItem("pipeline-token", given.value.trim());
    document.dispatchEvent(new Event("token"));
  });
}

async function main() {
  keepToken();
  const about = document.getElementById("about");
  try {
    openapi = await (await fetch("openapi.json")).json();
  } catch (error) {
    about.textContent = `openapi.json cannot be read: ${error}`;
    return;
  }
  const all = Object.entries(openapi.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
  about.replaceChildren(...prose(openapi.info.description));
  document.getElementById("version").textContent = `REST, version ${openapi.info.version}`;
  for (const tag of openapi.tags) {
    const own = all.filter(({ operation }) => operation.tags.includes(tag.name));
    document.getElementById("operations").append(section(tag, own));
    document.getElementById("contents").append(...contents(tag, own).flat());
  }
  document.getElementById("filter").addEventListener("input", (event) => find(event.target.value));
  addEventListener("hashchange", openNamed);
  openNamed();
}

main();
