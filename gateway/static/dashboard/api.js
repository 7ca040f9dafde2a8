// What the page asks of its gateway. A refusal is an Error with the gateway's own sentence.
import { askToken } from "./dialogs.js";

const PATIENCE = 10_000; // ms
const TOKEN = "pipeline-token";

export const urlOf = (path) => new URL(path, document.baseURI);

export class NoToken extends Error {}

let question = null; // one, however many requests were refused
let declined = false; // then what only looks asks no more

// The answer to a request that has the tab's token. Where the gateway knows none, or `acts` and needs another one,
// a person is asked for it; it is kept with the tab, and nowhere else.
export async function send(path, options = {}, acts = false) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
    const signal = options.signal ?? (acts ? null : AbortSignal.timeout(PATIENCE)); // anew: a question takes a while
    const response = await fetch(urlOf(path), { ...options, headers, signal });
    if (response.status !== 401 && !(acts && response.status === 403)) return response;
    if (sessionStorage.getItem(TOKEN) !== token) continue; // another request brought one meanwhile
    if (declined && !acts) throw new NoToken("The gateway asks for a token.");
    question ??= askToken(response.status === 403 ? "role" : token === null ? "none" : "unknown").finally(() => { question = null; });
    const given = await question;
    declined = given === null;
    if (declined) throw new NoToken(acts ? "Nothing was changed: it takes a token that may." : "The gateway asks for a token.");
    sessionStorage.setItem(TOKEN, given);
  }
}

export const ask = async (path) => read(await send(path));

export async function act(method, path, body) {
  return read(await send(path, { method, headers: body && { "content-type": "application/json" }, body: body && JSON.stringify(body) }, true));
}

async function read(response) {
  let said = {};
  try {
    said = await response.json();
  } catch { /* no JSON: the status says enough */ }
  if (response.ok && said.status !== false) return said;
  throw new Error(said.message ?? said.error ?? `${response.status} ${response.statusText}`);
}
