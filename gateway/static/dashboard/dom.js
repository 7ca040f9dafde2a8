// Elements, made once and then kept up to date.

// h("a", {href: "#"}, "text", element, …): an element. Text is never read as HTML.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Nothing is touched that is as it should be: a screen reader, a selection and the layout are left alone.
export function setText(element, text) {
  const wanted = String(text ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function setData(element, name, value) {
  if (value == null) delete element.dataset[name];
  else if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

// The children of `parent` are those of `items`, in their order: each is made once, and updated from then on.
export function keyed(parent, items, key, make, update) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, element] of known) {
    if (wanted.has(name)) continue;
    element.remove();
    known.delete(name);
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = known.get(name);
    if (!element) known.set(name, (element = make(item)));
    update?.(element, item);
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
}

// A table whose columns are [{label, name, cell(td, item), number, sort}]; its rows become cards where it is narrow.
export function table(columns, { label, onsort } = {}) {
  const heads = columns.map((column) =>
    h("th", { scope: "col", role: "columnheader", class: column.number && "number" },
      column.sort && onsort
        ? h("button", { type: "button", class: "sort", onclick: () => onsort(column) }, column.label)
        : column.label || h("span", { class: "unseen" }, "Actions")));
  const body = h("tbody", { role: "rowgroup" });
  const whole = h("table", { role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), body);
  const make = () => h("tr", { role: "row" }, columns.map((column) =>
    h("td", { role: "cell", "data-label": column.label, "data-name": column.name, class: column.number && "number" })));
  const update = (row, item) => columns.forEach((column, at) => column.cell(row.children[at], item));
  return {
    element: h("div", { class: "scroll card", tabindex: "0", role: "region", "aria-label": label }, whole),
    show: (items, key) => keyed(body, items, key, make, update),
    mark(column, descending) {
      columns.forEach((each, at) => {
        if (each === column) heads[at].setAttribute("aria-sort", descending ? "descending" : "ascending");
        else heads[at].removeAttribute("aria-sort");
      });
    },
  };
}

// A word with a colour that says the same.
export function badge(element, text, tone) {
  if (!element.firstElementChild) element.append(h("span", { class: "badge" }));
  setText(element.firstElementChild, text);
  setData(element.firstElementChild, "tone", tone);
}

// A text with its whole length at hand.
export function short(element, text, full) {
  setText(element, text);
  if (full && full !== text) element.title = full;
  else element.removeAttribute("title");
}

export const empty = (...children) => h("p", { class: "empty card" }, ...children);
