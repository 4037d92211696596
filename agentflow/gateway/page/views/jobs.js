// The jobs: files of tasks, how far they are, what they cost, what they wait for.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { count, money, shell, stamp } from "../core/amounts.js";
import { send } from "../core/api.js";
import { button, h } from "../core/dom.js";
import { facts } from "../core/facts.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";
import { said } from "./limits.js";
import { sub } from "./overview.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

const LABEL = "job";

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function jobs(place, app) {
  if (place.path[1]) return job(place.path[1], app);
  const table = new Table(app, {
    view: "jobs",
    label: "Jobs",
    params: { fields: "read,problem,empty" },
    link: (row, head, cell) => (head.key === "id" ? to(["jobs", row.key]) : head.key === "queue" && cell.text ? to(["queues", cell.text]) : null),
    open: (row) => to(["jobs", row.key]),
    changed: () => app.watch(view, [table.on]),
  });
  /** @type {View} */
  const view = {
    title: "Jobs",
    on: [table.on],
    main: [heading("Jobs"), table.element],
    show: ([picture]) => table.show(picture, said(picture.document)),
    close: () => table.close(),
  };
  return view;
}

/** @param {string} id @param {App} app @returns {View} */
function job(id, app) {
  const about = h("dl", { class: "facts" });
  const done = h("progress", { max: 1, "aria-label": "Progress" });
  const withdraw = button("Withdraw ...", () => app.own({
    title: `Withdraw job ${id}`,
    lines: [
      "What waits of it is taken back, so that nobody runs or pays for it; what runs goes on.",
      "Nothing is lost: the same agentflow run goes on with what was withdrawn.",
    ],
    command: shell(["agentflow", "withdraw", id]),
    run: async () => {
      const told = await send(`v1/jobs/${encodeURIComponent(id)}/withdraw`, undefined);
      return `${count(told.withdrawn)} withdrawn; ${count(told.running)} run on`;
    },
  }), { class: "danger" });
  const table = new Table(app, {
    view: "tasks",
    label: "Tasks of this job",
    params: { q: `label:${LABEL}=${id}` },
    link: ofTask,
    open: (row) => to(["tasks", row.key]),
    acts: [{ act: "cancel", title: "Cancel" }, { act: "retry", title: "Retry" }],
    empty: "no task of it is known",
    changed: () => app.watch(view, on()),
  });
  const on = () => ["jobs?number=0", table.on];
  /** @type {View} */
  const view = {
    title: `Job ${id}`,
    on: on(),
    main: [heading(`Job ${id}`, app.may("operator") ? withdraw : null), done, about, sub("Its tasks"), table.element],
    show([picture, tasks]) {
      table.show(tasks);
      const found = picture.document.rows.find((/** @type {any} */ each) => each.id === id);
      withdraw.disabled = !found || Boolean(found.ended);
      if (!found) {
        facts(about, [["state", picture.document.read ? "there is no such job" : "reading ..."]]);
        return;
      }
      done.value = found.lines ? found.done / found.lines : 1;
      facts(about, [
        ["state", found.state],
        ["waits for", found.waiting, "warn"],
        ["done", `${count(found.done)} of ${count(found.lines)}, ${count(found.failed)} failed`],
        ["running", count(found.running)],
        ["cost", money(found.cost_usd)],
        ["file", found.file],
        ["results", found.results],
        ["queue", h("a", { href: to(["queues", found.queue]) }, found.queue)],
        ["by", found.who],
        ["started", stamp(found.started)],
        ["ended", found.ended ? stamp(found.ended) : ""],
      ]);
    },
    close: () => table.close(),
  };
  return view;
}
