// The queues: what waits, for how long, who serves them; and one of them with its tasks.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { count, span } from "../core/amounts.js";
import { Chart } from "../core/charts.js";
import { button, h } from "../core/dom.js";
import { facts } from "../core/facts.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";
import { sub } from "./overview.js";
import { stops } from "./stops.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function queues(place, app) {
  if (place.path[1]) return queue(place.path[1], app);
  const gates = stops(app);
  const table = new Table(app, {
    view: "queues",
    label: "Queues",
    params: { fields: "gates" },
    link: (row, { key }) => (key === "queue" ? to(["queues", row.key]) : null),
    open: (row) => to(["queues", row.key]),
    acts: [{ act: "pause", title: "Pause" }, { act: "resume", title: "Resume" }],
    empty: "no queues yet: the first task makes one",
    changed: () => app.watch(view, [table.on]),
  });
  /** @type {View} */
  const view = {
    title: "Queues",
    on: [table.on],
    main: [heading("Queues"), gates.element, table.element],
    show([picture]) {
      table.show(picture);
      gates.show(picture.document.gates ?? []);
    },
    close: () => table.close(),
  };
  return view;
}

/** @param {string} name @param {App} app @returns {View} */
function queue(name, app) {
  const about = h("dl", { class: "facts" });
  const chart = new Chart();
  const table = new Table(app, {
    view: "tasks",
    label: `Tasks of queue ${name}`,
    params: { q: `queue:${name}` },
    link: ofTask,
    open: (row) => to(["tasks", row.key]),
    acts: [{ act: "cancel", title: "Cancel" }, { act: "retry", title: "Retry" }],
    empty: "no task of it is known",
    changed: () => app.watch(view, on()),
  });
  const pause = button("Pause", () => app.act("pause", [name]));
  const resume = button("Resume", () => app.act("resume", [name]), { class: "primary" });
  const on = () => ["queues?number=0", table.on];
  /** @type {View} */
  const view = {
    title: `Queue ${name}`,
    on: on(),
    main: [
      heading(name, app.may("operator") ? h("span", { class: "buttons" }, pause, resume) : null),
      h("div", { class: "halves" }, about, chart.element),
      sub("Its tasks", h("a", { href: to(["tasks"], { q: `queue:${name}` }) }, "Filter them")),
      table.element,
    ],
    show([picture, tasks]) {
      table.show(tasks);
      const found = picture.document.queues.find((/** @type {any} */ each) => each.queue === name);
      const paused = found?.paused ?? picture.document.gates.some((/** @type {any} */ gate) => gate.name === name);
      pause.hidden = paused;
      resume.hidden = !paused;
      if (!found) {
        facts(about, [["state", "nothing is known of it"]]);
        return;
      }
      const { states, waiting } = found;
      facts(about, [
        ["state", found.state, { open: "ok", paused: "warn", unserved: "crit" }[/** @type {"open"} */ (found.state)]],
        ["paused by", found.paused_by],
        ["waiting", `${count(states.queued ?? 0)} (${count(waiting.high ?? 0)} high, ${count(waiting.low ?? 0)} low)`],
        ["oldest", found.oldest_s === null ? "-" : span(found.oldest_s)],
        ["running", count(states.running ?? 0)],
        ["parked", count((states.scheduled ?? 0) + (states.retrying ?? 0) + (states.waiting ?? 0))],
        ["workers", `${found.serving} serve it with ${found.slots} slots`],
        ["rate", `${found.ended_per_s.toFixed(1)} a second`],
        ["empty in", found.drained_s === null ? "never, as it is" : span(found.drained_s)],
      ]);
      chart.show({
        title: "Ended in 20 seconds", unit: "", step: 20, says: (value) => count(value),
        series: [{ name: "ended", class: "accent", values: found.ended }],
      });
    },
    close: () => table.close(),
  };
  return view;
}
