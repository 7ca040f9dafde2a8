// Brings what the gateway says: by a stream of events, and by polling where there is none.
import { ask } from "./api.js";

const KINDS = ["status", "history", "recent", "failures", "event"];
const POLL = 2000; // ms
const SILENCE = 15_000; // a stream that says nothing for so long is none
const AGAIN = 10_000; // until a stream is tried again that was refused

// take(kind, data) is called with what is new, changed(state) with "live", "polling" or "down".
export function startFeed(take, changed) {
  let source = null, heard = 0, polls = 0, timer = null, retry = null;

  function open() {
    clearTimeout(retry);
    source?.close();
    const own = (source = new EventSource("dashboard/live"));
    heard = Date.now();
    own.onopen = () => { heard = Date.now(); };
    own.onerror = () => {
      if (own !== source) return;
      if (own.readyState === EventSource.CLOSED) retry = setTimeout(open, AGAIN);
      poll();
    };
    for (const kind of KINDS) {
      own.addEventListener(kind, (message) => {
        heard = Date.now();
        clearTimeout(timer);
        timer = null;
        take(kind, JSON.parse(message.data));
        changed("live");
      });
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
    } catch {
      if (timer === mine) changed("down");
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
    source?.close();
    clearTimeout(retry);
    clearTimeout(timer);
    timer = null;
  });
  open();
}
