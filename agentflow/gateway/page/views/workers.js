// Who works: slots, load, memory, lag; and one of them with what it runs.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { clock, count, span } from "../core/amounts.js";
import { button, h, put } from "../core/dom.js";
import { facts } from "../core/facts.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";
import { sub } from "./overview.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function workers(place, app) {
  if (place.path[1]) return worker(place.path[1], app);
  const table = new Table(app, {
    view: "workers",
    label: "Workers",
    params: { fields: "none" },
    link: (row, { key }) => (key === "worker" ? to(["workers", row.key]) : null),
    open: (row) => to(["workers", row.key]),
    acts: [{ act: "drain", title: "Drain" }],
    empty: "no workers: agentflow worker starts one",
    changed: () => app.watch(view, [table.on]),
  });
  /** @type {View} */
  const view = {
    title: "Workers",
    on: [table.on],
    main: [heading("Workers"), table.element],
    show: ([picture]) => table.show(picture),
    close: () => table.close(),
  };
  return view;
}

/** @param {string} actor @param {App} app @returns {View} */
function worker(actor, app) {
  const about = h("dl", { class: "facts" });
  const pools = h("div", { class: "pools" });
  const notes = h("ul", { class: "notes" });
  const table = new Table(app, {
    view: "tasks",
    label: "Tasks of this worker",
    params: { q: `worker:${actor}` },
    link: ofTask,
    open: (row) => to(["tasks", row.key]),
    empty: "no task of it is known",
    changed: () => app.watch(view, on()),
  });
  const drain = button("Drain", () => app.act("drain", [actor]), { class: "danger" });
  const on = () => ["workers?number=0", table.on];
  const top = heading(actor, app.may("operator") ? drain : null);
  /** @type {View} */
  const view = {
    title: actor,
    on: on(),
    main: [top, about, notes, pools, sub("Its tasks"), table.element],
    show([picture, tasks]) {
      table.show(tasks);
      const found = picture.document.workers.find((/** @type {any} */ each) => each.actor === actor);
      drain.disabled = !found || !["busy", "idle"].includes(found.state);
      if (!found) {
        facts(about, [["state", "not known now: it has ended, or was never here"]]);
        return;
      }
      const head = /** @type {Element} */ (top.firstElementChild);
      if (head.textContent !== found.name) head.textContent = found.name;
      facts(about, [
        ["state", found.state, `worker-${found.state}`],
        ["slots", `${found.running} of ${found.slots} run, ${found.held} held`],
        ["done", `${count(found.done)}, ${count(found.failed)} failed`],
        ["heard", `${span(found.silent_s)} ago`],
        ["loop lag", found.loop_lag_ms === null ? "-" : `${found.loop_lag_ms.toFixed(0)} ms`],
        ["memory", found.rss_bytes === null ? "-" : `${(found.rss_bytes / 1048576).toFixed(0)} MB`],
        ["host", `${found.host}, process ${found.pid}`],
        ["version", found.version],
        ["started", clock(found.started)],
        ["queues", found.queues.join(", ")],
        ["kinds", found.kinds.join(", ")],
      ]);
      put(notes, found.notes.map((/** @type {string} */ note) => h("li", { class: "token-warn" }, note)));
      limits(pools, found.pools);
    },
    close: () => table.close(),
  };
  return view;
}

/** The limits that a worker last heard. @param {Element} into @param {Record<string, Record<string, any>>} pools */
function limits(into, pools) {
  const key = JSON.stringify(pools);
  if (into.getAttribute("data-key") === key) return;
  into.setAttribute("data-key", key);
  const rows = Object.entries(pools).flatMap(([pool, families]) =>
    Object.entries(families ?? {}).map(([family, said]) => {
      const told = said?.limits ?? {};
      const left = (/** @type {string} */ name) =>
        told[`${name}-limit`] ? `${count(Number(told[`${name}-remaining`]))} of ${count(Number(told[`${name}-limit`]))}` : "-";
      return h("tr", {}, h("td", {}, h("a", { href: to(["limits"]) }, `${pool}.${family}`)),
        h("td", { class: "right" }, String(said?.in_flight ?? 0)), h("td", { class: "right" }, String(said?.refused ?? 0)),
        ["requests", "input-tokens", "output-tokens"].map((name) => h("td", { class: "right" }, left(name))));
    }));
  put(into, rows.length
    ? h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["Pool", "In flight", "Refused", "Requests left", "Input left", "Output left"].map((name, at) => h("th", { class: at ? "right" : null }, name)))), h("tbody", {}, rows))
    : null);
}
