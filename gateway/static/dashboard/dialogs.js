// Questions in front of the page, and what became of an action.
import { byId, h } from "./dom.js";

const SHOWN = 6000; // ms that a notice stays

// A modal question; what `read` says as it is confirmed, else null.
function show(title, inside, yes, read, tone) {
  const dialog = byId("dialog");
  return new Promise((resolve) => {
    const close = (value) => {
      if (dialog.open) dialog.close();
      resolve(value);
    };
    const form = h("form", { novalidate: true, onsubmit(event) { event.preventDefault(); close(read()); } },
      h("h2", { id: "dialog-title" }, title), inside,
      h("div", { class: "row end" },
        h("button", { type: "button", onclick: () => close(null) }, "Not now"),
        h("button", { class: "main", "data-tone": tone }, yes)));
    dialog.replaceChildren(form);
    dialog.oncancel = () => resolve(null);
    dialog.showModal();
  });
}

export const confirm = (title, text, yes, tone) => show(title, h("p", {}, text), yes, () => true, tone);

const WHY = {
  none: "This gateway asks who you are: give it a token. It is kept until the tab is closed, and nowhere else.",
  unknown: "The gateway does not know this token.",
  role: "This token may not do that: give one that may.",
};

// A token, or null if none is given. `why` is one of those above.
export async function askToken(why) {
  if (byId("dialog").open) return null; // another question is asked just now
  const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const inside = [
    h("p", {}, WHY[why]),
    h("label", { for: "token" }, "Token"), input,
  ];
  return show("Token", inside, "Go on", () => input.value.trim() || null);
}

export function notice(text, tone = "good") {
  const element = h("p", { class: `notice ${tone}` }, text);
  byId("notices").append(element);
  setTimeout(() => element.remove(), tone === "bad" ? 2 * SHOWN : SHOWN);
}

// Do what a button says: it is out of use meanwhile, and what comes of it is said.
export async function during(button, action, done) {
  button.disabled = true;
  try {
    await action();
    if (done) notice(done);
  } catch (error) {
    notice(error.message, "bad");
  } finally {
    button.disabled = false;
  }
}
