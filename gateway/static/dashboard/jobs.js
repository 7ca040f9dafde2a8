// Jobs, the newest first: how far they are, and a way to end them.
import { act, ask } from "./api.js";
import { confirm, during } from "./dialogs.js";
import { badge, byId, empty, h, setHidden, setText, short, table } from "./dom.js";
import { ago, count, percent, shortened, span } from "./format.js";

const PAGE = 20;
const TONES = { done: "good", failed: "bad", running: "info", queued: "warn", cancelled: "faint", expired: "faint" };

let limit = PAGE, shown = null;
const none = empty("No jobs. ", h("a", { href: "docs#submitJob" }, "POST /jobs"), " takes rows, or whole files, whose answers are fetched later.");
const more = h("button", { type: "button", onclick: () => { limit += PAGE; during(more, refreshJobs); } }, "Older jobs");

// False where every job that is shown is over.
export async function refreshJobs() {
  const { jobs, cursor } = await ask(`jobs?limit=${limit}`);
  if (!shown) {
    shown = table(COLUMNS, { label: "Jobs" });
    byId("jobs-table").append(none, shown.element, h("div", { class: "row" }, more));
  }
  setHidden(none, jobs.length > 0);
  setHidden(shown.element, jobs.length === 0);
  setHidden(more, !cursor);
  shown.show(jobs, (job) => job.id);
  const going = jobs.filter((job) => !job.finished);
  setText(byId("jobs-summary"), going.length ? `${going.filter((job) => job.started).length} running, ${going.filter((job) => !job.started).length} waiting` : "");
  return going.length > 0;
}

const COLUMNS = [
  { label: "Job", name: "job", cell: (td, job) => short(td, shortened(job.id), job.id) },
  { label: "State", name: "state", cell: showState },
  { label: "Model", name: "model", cell: (td, job) => short(td, `${job.model} ${shortened(job.version)}`, `${job.model} ${job.version}`) },
  { label: "Progress", name: "progress", cell: showProgress },
  { label: "Rows", name: "rows", number: true, cell: (td, job) => setText(td, `${count(job.rows_done)} of ${job.rows_total == null ? "?" : count(job.rows_total)}${job.rows_failed ? `, ${count(job.rows_failed)} failed` : ""}`) },
  { label: "Time", name: "time", cell: (td, job) => setText(td, timeOf(job)) },
  { label: "Came", name: "created", cell: (td, job) => setText(td, ago(job.created)) },
  { label: "", name: "actions", cell: showActions },
];

function showState(td, job) {
  badge(td, job.state, TONES[job.state]);
  if (!td.children[1]) td.append(h("small", {}));
  setText(td.children[1], job.error ? ` ${job.error}` : job.queue_position ? ` ${job.queue_position} before it` : "");
}

function showProgress(td, job) {
  if (!td.firstElementChild) td.append(h("progress", { max: "1" }), h("span", { class: "faint" }));
  const [bar, text] = td.children;
  if (bar.value !== job.progress) bar.value = job.progress;
  bar.setAttribute("aria-label", `Progress of ${shortened(job.id)}`);
  setText(text, percent(job.progress));
}

function timeOf(job) {
  if (!job.started) return job.finished ? "–" : `waits ${span(job.queued_s)}`;
  if (job.finished) return `took ${span(job.running_s)}`;
  const left = job.progress > 0.01 ? `, about ${span(job.running_s / job.progress - job.running_s)} more` : "";
  return `runs ${span(job.running_s)}${left}`;
}

function showActions(td, job) {
  if (!td.firstElementChild) td.append(h("button", { type: "button", onclick: (event) => cancel(event.target, td.job) }, "Cancel"));
  td.job = job;
  setHidden(td.firstElementChild, Boolean(job.finished));
  td.firstElementChild.setAttribute("aria-label", `Cancel ${job.id}`);
}

async function cancel(button, job) {
  const sure = await confirm("Cancel this job?", `${shortened(job.id)} has done ${count(job.rows_done)} rows; their answers are lost.`, "Cancel it", "bad");
  if (!sure) return;
  await during(button, () => act("DELETE", `jobs/${job.id}`), `${shortened(job.id)} is cancelled.`);
  await refreshJobs();
}
