// The page put together: what the gateway says goes to the parts that show it.
import { showAutoscaler } from "./autoscaler.js";
import { addHistory } from "./charts.js";
import { byId, setData, setHidden, setText } from "./dom.js";
import { refreshExperiments } from "./experiments.js";
import { startFeed } from "./feed.js";
import { showFleet } from "./fleet.js";
import { moment } from "./format.js";
import { refreshJobs } from "./jobs.js";
import { refreshModels } from "./models.js";
import { addEvent, showFailures, showRecent } from "./recent.js";
import { showTiles } from "./tiles.js";
import { offerModels } from "./tryit.js";

const SAID = { connecting: "Connecting", live: "Live", polling: "Polling", down: "No answer", refused: "No token" };
const DEBOUNCE = 300; // ms

// What is asked again when something happens, and every so many seconds while it may change without that.
const sources = {
  models: { refresh: async () => offerModels(await refreshModels()), every: 30 },
  experiments: { refresh: refreshExperiments, every: 5 },
  jobs: { refresh: refreshJobs, every: 2 },
};
const topics = { rollout: ["models"], experiment: ["experiments", "models"], job: ["jobs"], fleet: ["models"], autoscaler: [] };

let state = "connecting";
let manager = null;

function refresh(name, soon = DEBOUNCE) {
  const source = sources[name];
  if (source.timer) return;
  source.timer = setTimeout(async () => {
    let more = false;
    try {
      more = await source.refresh();
    } catch { /* the feed says when nobody answers */ }
    source.timer = null;
    clearTimeout(source.later);
    if (more !== false) source.later = setTimeout(() => document.hidden || state === "down" || refresh(name, 0), source.every * 1000);
  }, soon);
}

const refreshAll = () => Object.keys(sources).forEach((name) => refresh(name, 0));

const takers = {
  status(status) {
    manager = status.manager;
    showTiles(status);
    showFleet(status);
    showAutoscaler(manager);
  },
  history: addHistory,
  recent(recent) {
    showRecent(recent);
    if (state === "polling") refreshAll(); // what the events would have asked for
  },
  failures: showFailures,
  event(event) {
    addEvent(event);
    if (event.topic === "lost") refreshAll();
    if (event.topic === "autoscaler") showAutoscaler(manager, true);
    for (const name of topics[event.topic] ?? []) refresh(name);
  },
};

function changed(now) {
  if (now === state) return;
  const before = state;
  state = now;
  setData(byId("connection"), "state", now);
  setText(byId("connection").querySelector(".said"), SAID[now]);
  setData(document.body, "state", now);
  const down = byId("down");
  if (now === "down") setText(down, `The gateway has not answered since ${moment(Date.now() / 1000)}. This is what it said last; the page tries again by itself.`);
  setHidden(down, now !== "down");
  if (["down", "connecting", "refused"].includes(before)) refreshAll();
}

startFeed((kind, data) => takers[kind](data), changed);
refreshAll();
document.addEventListener("visibilitychange", () => document.hidden || refreshAll());
