// What the page asks of its gateway. A refusal is an Error with the gateway's own sentence.
import { askToken } from "./dialogs.js";

const PATIENCE = 10_000; // ms
const TOKEN = "pipeline-admin-token";

export const urlOf = (path) => new URL(path, document.baseURI);

export async function ask(path) {
  const response = await fetch(urlOf(path), { signal: AbortSignal.timeout(PATIENCE) });
  return read(response);
}

// An action. Where the gateway wants to know who acts, the page asks for the token once and keeps it with the tab.
export async function act(method, path, body) {
  for (let refused = false; ; refused = true) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...(body && { "content-type": "application/json" }), ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(urlOf(path), { method, headers, body: body && JSON.stringify(body) });
    if (response.status !== 401 && response.status !== 403) return read(response);
    sessionStorage.removeItem(TOKEN);
    const given = await askToken(refused || token !== null);
    if (!given) throw new Error("Nothing was changed: it takes the admin token.");
    sessionStorage.setItem(TOKEN, given);
  }
}

async function read(response) {
  let said = {};
  try {
    said = await response.json();
  } catch { /* no JSON: the status says enough */ }
  if (response.ok && said.status !== false) return said;
  throw new Error(said.message ?? said.error ?? `${response.status} ${response.statusText}`);
}
