// One task: what it was told, what it answers as it comes, what happened to it, what it costs, and
// why it waits.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { get, Problem } from "../core/api.js";
import { button, copying, h, put, say } from "../core/dom.js";
import { draw } from "../core/cells.js";
import { Stream } from "../core/text.js";
import { answer, history, prompt } from "./taskparts.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */
/** @typedef {import("../core/types.js").Picture} Picture */

const ENDED = ["succeeded", "failed", "cancelled"];
const READ_AFTER = 150;
const WHY_EVERY = 5000;
const RECORDS = ["queued", "started", "progress", "scheduled", "retrying", "waiting", "succeeded", "failed", "cancelled"];
const HIDDEN = new Set(["id", "last"]);

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function task(place, app) {
  const id = place.path[1];
  const path = `v1/tasks/${encodeURIComponent(id)}`;
  const gone = new AbortController();
  const stream = new Stream();
  const about = h("dl", { class: "facts" });
  const why = h("p", { class: "why", dir: "auto" });
  const labels = h("p", { class: "labels" });
  const parts = { prompt: h("section"), answer: h("section"), history: h("section") };
  const cancel = button("Cancel ...", () => app.act("cancel", [id]), { class: "danger", hidden: true });
  const retry = button("Retry ...", () => app.act("retry", [id]), { class: "primary", hidden: true });
  const again = h("a", { class: "button", hidden: true }, "Submit alike");
  let state = "";
  let mark = "";
  let timer = 0;
  let told = false;
  let asked = false;
  /** @type {EventSource | null} */
  let source = null;

  const listen = () => {
    if (source || gone.signal.aborted) return;
    const mine = (source = new EventSource(`${path}/events`));
    const drop = () => {
      mine.close();
      if (source === mine) source = null;
    };
    mine.addEventListener("task.tokens", (event) => {
      const { attempt, offset, text } = JSON.parse(event.data);
      stream.add(attempt, offset, text);
    });
    for (const name of RECORDS) mine.addEventListener(`task.${name}`, read);
    mine.addEventListener("end", () => (drop(), read()));
    mine.addEventListener("error", () => mine.readyState === EventSource.CLOSED && drop());
  };
  const read = () => {
    clearTimeout(timer);
    timer = window.setTimeout(load, READ_AFTER);
  };
  const load = async () => {
    try {
      const now = await get(path, gone.signal);
      const changed = now.state !== state;
      state = now.state;
      told = true;
      const over = ENDED.includes(state);
      cancel.hidden = over || !app.may("operator");
      retry.hidden = state !== "failed" || !app.may("operator");
      if (!over) listen();
      if (!asked) {
        asked = true;
        known();
      }
      if (!about.childElementCount) plain(now);
      put(labels, Object.entries(now.labels).map(([name, value]) =>
        h("a", { class: "chip", href: to(["tasks"], { q: `label:${name}=${value}` }), dir: "auto" }, `${name}=${value}`)));
      const log = await get(`${path}/history`, gone.signal);
      history(parts.history, log.records);
      if (over) answer(parts.answer, await get(`${path}/result`, gone.signal), stream);
      else answer(parts.answer, null, stream, state, now);
      if (changed) reason();
    } catch (error) {
      if (gone.signal.aborted) return;
      const text = error instanceof Error ? error.message : String(error);
      if (!told && error instanceof Problem && error.status === 404) say(why, `${text}. It may be older than what is kept, or its id is another.`);
      else app.tell(text, "crit");
    }
  };
  const reason = async () => {
    try {
      say(why, (await get(`${path}/why`, gone.signal)).text);
    } catch {
      // The rest of the page tells as much.
    }
  };
  const known = () => get(`v1/submission/like/${encodeURIComponent(id)}`, gone.signal).then(
    ({ task: body }) => {
      prompt(parts.prompt, body, "What it was told is gone: it is kept until the task has ended well.");
      if (!body) return;
      if (typeof body.prompt === "string" && app.may("submitter") && body.prompt.length < 4000) {
        again.href = to(["submit"], { prompt: body.prompt, system: body.system ?? "", model: body.model ?? "", kind: body.kind ?? "" });
        again.hidden = false;
      }
    },
    (error) => gone.signal.aborted || prompt(parts.prompt, null, error.message));
  const waits = setInterval(() => state && !ENDED.includes(state) && state !== "running" && !document.hidden && reason(), WHY_EVERY);
  /** What is known of a task that the gateway does not follow any more. @param {any} now */
  const plain = (now) => {
    put(about, ["state", "queue", "kind", "model", "attempt", "worker"].filter((name) => now[name]).map((name) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, String(now[name])))));
  };

  /** @type {View} */
  const view = {
    title: id,
    on: [`tasks?${new URLSearchParams({ q: `id:${id}`, number: "5" })}`],
    main: [
      heading(id, h("span", { class: "buttons" }, copying(() => `agentflow get ${id}`, "Copy command"), again, retry, cancel)),
      about, labels, why,
      h("div", { class: "task" }, parts.answer, parts.prompt),
      parts.history,
      h("p", { class: "dim" }, "As JSON: ", ["", "/result", "/history"].map((rest) => [h("a", { href: path + rest, "data-plain": true }, path + rest), " "]).flat()),
    ],
    show([picture]) {
      const row = picture.grid?.rows.find((each) => each.key === id);
      if (!row || !picture.grid) return;
      const cells = picture.grid.headings.map((head, at) => ({ head, cell: row.cells[at] })).filter(({ head, cell }) => cell.text && !HIDDEN.has(head.key));
      const names = cells.map(({ head }) => head.title).join(" ");
      if (about.dataset.names !== names) {
        about.dataset.names = names;
        put(about, cells.map(({ head }) => h("div", {}, h("dt", {}, head.key), h("dd"))));
      }
      cells.forEach(({ head, cell }, at) => {
        const link = head.key === "queue" ? to(["queues", cell.text]) : null;
        draw(/** @type {HTMLElement} */ (about.children[at].lastElementChild), cell, link);
      });
      // The row tells that something happened; what it was is read.
      const now = ["state", "attempt"].map((key) => cells.find(({ head }) => head.key === key)?.cell.text).join(" ");
      if (now !== mark) {
        if (mark) read();
        mark = now;
      }
    },
    close() {
      gone.abort();
      source?.close();
      clearTimeout(timer);
      clearInterval(waits);
      stream.close();
    },
  };
  load();
  return view;
}
