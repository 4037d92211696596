// What happens, the newest on top; so many lines and no more, however long one looks.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { clock } from "../core/amounts.js";
import { get } from "../core/api.js";
import { button, h, say } from "../core/dom.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

const LINES = 400;
/** Milliseconds between two drawings: each lays out the whole table. */
const EVERY = 300;
const KINDS = ["queued", "started", "progress", "scheduled", "retrying", "waiting", "succeeded", "failed", "cancelled"];
const TOKENS = { started: "state-running", progress: "dim", queued: "dim" };

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function events(place, app) {
  const chosen = place.query.get("only") ?? "";
  const body = h("tbody");
  let held = false;
  /** @type {HTMLElement[]} */
  let waiting = [];
  let frame = 0;
  const pause = button("Hold", () => {
    held = !held;
    say(pause, held ? "Go on" : "Hold");
    if (!held) flush();
  });
  const flush = () => {
    frame = 0;
    if (held) {
      waiting.splice(0, waiting.length - LINES);
      return;
    }
    body.prepend(...waiting.reverse());
    waiting = [];
    while (body.children.length > LINES) body.lastElementChild?.remove();
  };
  const add = (/** @type {HTMLElement} */ line) => {
    waiting.push(line);
    if (waiting.length > 2 * LINES) waiting.splice(0, LINES);
    if (!frame) frame = window.setTimeout(flush, EVERY);
  };
  /** @param {string} kind @param {any} data */
  const line = (kind, data) => {
    const error = data.error && typeof data.error === "object" ? `${data.error.type}: ${data.error.message}` : (data.error ?? "");
    const progress = data.progress === undefined || data.progress === null ? "" : `${Math.round(100 * data.progress)} %`;
    const id = data.taskId ?? data.task;
    return h("tr", {},
      h("td", { class: "dim" }, clock(data.time ?? new Date().toISOString())),
      h("td", { class: `token-${/** @type {Record<string, string>} */ (TOKENS)[kind] ?? `state-${kind}`}` }, kind),
      h("td", {}, id ? h("a", { href: to(["tasks", id]) }, id) : (data.subject ?? "")),
      h("td", {}, data.queue ? h("a", { href: to(["queues", data.queue]) }, data.queue) : ""),
      h("td", { dir: "auto", class: "rest" }, [progress, data.note, data.reason, error, data.text].filter(Boolean).join("  ").slice(0, 500)));
  };
  const query = new URLSearchParams((chosen ? [chosen] : KINDS).map((kind) => ["type", `task.${kind}`]));
  /** @type {EventSource | null} */
  let source = null;
  get("v1/views/events").then((picture) => {
    for (const event of picture.document.events.slice(-100)) {
      if (!chosen || event.state === chosen) add(line(event.state ?? event.subject, event));
    }
  }, () => {}).finally(() => {
    if (closed) return;
    source = new EventSource(`v1/events?${query}`);
    for (const kind of KINDS) {
      source.addEventListener(`task.${kind}`, (event) => add(line(kind, JSON.parse(event.data))));
    }
  });
  let closed = false;
  return {
    title: "Events",
    main: [
      heading("Events", h("span", { class: "space" }), pause),
      h("div", { class: "chips" }, ["", ...KINDS].map((kind) =>
        h("a", { class: "chip", href: to(["events"], { only: kind }), "aria-current": kind === chosen ? "true" : null }, kind || "all"))),
      h("div", { class: "grid scrolls", tabindex: 0 }, h("table", { class: "plain log happening", "aria-label": "Events" },
        h("thead", {}, h("tr", {}, ["Time", "What", "Task", "Queue", ""].map((name) => h("th", { scope: "col" }, name)))), body)),
    ],
    close() {
      closed = true;
      source?.close();
      clearTimeout(frame);
    },
  };
}
