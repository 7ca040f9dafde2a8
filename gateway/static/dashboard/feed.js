// Brings what the gateway says: by a stream of events, and by polling where there is none.
import { ask, NoToken, send } from "./api.js";
import { events } from "./stream.js";

const KINDS = new Set(["status", "history", "recent", "failures", "event"]);
const POLL = 2000; // ms
const SILENCE = 15_000; // a stream that says nothing for so long is none
const SOON = 1000; // until a stream is tried again that broke off
const AGAIN = 10_000; // until one is that was refused

// take(kind, data) is called with what is new, changed(state) with "live", "polling", "down" or "refused".
export function startFeed(take, changed) {
  let source = null, heard = 0, polls = 0, timer = null, retry = null;

  async function open() {
    clearTimeout(retry);
    source?.abort();
    const own = (source = new AbortController());
    let pause = SOON;
    heard = Date.now();
    try {
      const response = await send("dashboard/live", { signal: own.signal, cache: "no-store" });
      if (response.ok) await follow(response, own);
      else pause = AGAIN;
    } catch (error) {
      if (error instanceof NoToken) pause = AGAIN;
    }
    if (own !== source) return;
    retry = setTimeout(open, pause);
    poll();
  }

  async function follow(response, own) {
    heard = Date.now();
    for await (const [kind, data] of events(response.body)) {
      if (own !== source) return;
      heard = Date.now();
      if (!KINDS.has(kind)) continue;
      clearTimeout(timer);
      timer = null;
      take(kind, JSON.parse(data));
      changed("live");
    }
  }

  function poll() {
    if (timer === null) timer = setTimeout(look, 0);
  }

  async function look() {
    const mine = timer;
    try {
      take("status", await ask("status"));
      if (polls++ % 5 === 0) {
        for (const kind of ["history", "recent"]) take(kind, await ask(kind));
      }
      if (timer === mine) changed("polling");
    } catch (error) {
      if (timer === mine) changed(error instanceof NoToken ? "refused" : "down");
      polls = 0;
    }
    if (timer === mine) timer = setTimeout(look, POLL); // else the stream is there meanwhile
  }

  setInterval(() => {
    if (timer === null && !document.hidden && Date.now() - heard > SILENCE) {
      open();
      poll();
    }
  }, 1000);

  // A tab that nobody looks at asks for nothing.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return open();
    source?.abort();
    clearTimeout(retry);
    clearTimeout(timer);
    timer = null;
  });
  open();
}
