// What failed for good, by the cause that it has in common: what to do, and retry or drop.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { get } from "../core/api.js";
import { count } from "../core/amounts.js";
import { button, h, say } from "../core/dom.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

const PAGE = 1000;
const MOST = 10_000;

/** The tasks of a cause. @param {string} cause @returns {Promise<string[]>} */
async function lettersOf(cause) {
  const ids = [];
  let after = 0;
  while (ids.length < MOST) {
    const query = new URLSearchParams({ fingerprint: cause, limit: String(PAGE), after: String(after) });
    const page = await get(`v1/dead?${query}`);
    ids.push(...page.letters.map((/** @type {{ id: string }} */ each) => each.id));
    if (page.next === null) break;
    after = page.next;
  }
  return ids;
}

/** @param {string[]} causes */
async function allOf(causes) {
  return (await Promise.all(causes.map(lettersOf))).flat().slice(0, MOST);
}

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function dead(place, app) {
  const cause = place.path[1] ?? "";
  const flat = Boolean(cause) || place.query.get("by") === "one";
  const found = h("span", { class: "dim" });
  const begin = (/** @type {string} */ act) => lettersOf(cause).then((ids) => app.act(act, ids), (error) => app.tell(error.message, "crit"));
  const table = new Table(app, {
    view: "dead",
    label: flat ? "Dead letters" : "Causes of dead letters",
    params: { inside: cause, by: cause ? "" : (place.query.get("by") ?? ""), fields: "none" },
    link: (row, head, cell) => (head.key === "error" && !flat ? to(["dead", row.key]) : ofTask(row, head, cell)),
    open: (row) => (flat ? to(["tasks", row.key]) : to(["dead", row.key])),
    acts: flat
      ? [{ act: "retry", title: "Retry" }, { act: "drop", title: "Drop" }]
      : [{ act: "retry_group", title: "Retry" }, { act: "drop_group", title: "Drop" }],
    targets: flat ? undefined : allOf,
    empty: "no dead letters: nothing failed for good",
    changed: () => app.watch(view, [table.on]),
  });
  const acts = cause && app.may("operator")
    ? h("span", { class: "buttons" },
        button("Retry all ...", () => begin("retry_group"), { class: "primary" }),
        button("Drop all ...", () => begin("drop_group"), { class: "danger" }))
    : null;
  const other = h("div", { class: "chips" },
    h("a", { class: "chip", href: to(["dead"]), "aria-current": flat ? null : "true" }, "by cause"),
    h("a", { class: "chip", href: to(["dead"], { by: "one" }), "aria-current": flat && !cause ? "true" : null }, "one by one"));
  /** @type {View} */
  const view = {
    title: cause ? `Cause ${cause}` : "Dead letters",
    on: [table.on],
    main: [heading(cause ? `Cause ${cause}` : "Dead letters", found, h("span", { class: "space" }), acts, other), table.element],
    show([picture]) {
      // Of a cause that has no letters any more the gateway tells the causes.
      const letters = picture.grid?.headings[0]?.key === "id";
      table.show(picture.grid && cause && !letters ? { ...picture, grid: { ...picture.grid, rows: [], total: 0 } } : picture);
      const total = picture.grid?.total ?? 0;
      say(found, flat ? (letters ? count(total) : "none any more") : `${count(picture.head.dead_letters)} of ${count(total)} ${total === 1 ? "cause" : "causes"}`);
    },
    close: () => table.close(),
  };
  return view;
}
