// All tasks: filtered as one types, sorted, grouped, marked, and acted on.

import { heading } from "../core/acts.js";
import { go, mark, to } from "../core/address.js";
import { get } from "../core/api.js";
import { count } from "../core/amounts.js";
import { filter } from "../core/complete.js";
import { h, say } from "../core/dom.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

const STATES = ["running", "queued", "retrying", "scheduled", "waiting", "failed", "cancelled", "succeeded"];
const GROUPS = ["error", "state", "queue", "kind", "model", "worker"];
const FIELD = { error: "group" };
/** Targets that an act takes. */
const MOST = 10_000;
const PAGE = 1000;

/** The ids of all tasks that a filter wants. @param {string} q @returns {Promise<string[]>} */
async function matching(q) {
  const ids = [];
  let cursor = "";
  do {
    const query = new URLSearchParams({ q, fields: "id", limit: String(PAGE), cursor });
    const page = await get(`v1/tasks?${query}`);
    ids.push(...page.tasks.map((/** @type {{ id: string }} */ each) => each.id));
    cursor = page.next ?? "";
  } while (cursor && ids.length < MOST);
  return ids.slice(0, MOST);
}

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function tasks(place, app) {
  let q = place.query.get("q") ?? "";
  let by = place.query.get("by") ?? "";
  const found = h("span", { class: "dim", "aria-live": "polite" });
  const table = new Table(app, {
    view: "tasks",
    label: "Tasks",
    params: { q, by },
    link: (row, heading, cell) => (by ? (heading.key === "name" ? inside(row.key) : null) : ofTask(row, heading, cell)),
    open: (row) => (by ? inside(row.key) : to(["tasks", row.key])),
    acts: by ? [] : [{ act: "cancel", title: "Cancel" }, { act: "retry", title: "Retry" }],
    all: () => matching(q),
    empty: "no task fits",
    changed: () => app.watch(view, [table.on]),
  });
  const inside = (/** @type {string} */ name) => {
    const field = by.startsWith("label ") ? "label" : (/** @type {Record<string, string>} */ (FIELD)[by] ?? by);
    const value = by.startsWith("label ") ? `${by.slice(6)}=${name}` : name;
    return to(["tasks"], { q: `${q} ${field}:${/[\s"']/.test(value) ? `"${value}"` : value}`.trim() });
  };
  const chosen = (/** @type {string} */ text) => {
    if (text === q) return;
    q = text;
    mark({ q });
    chips();
    table.choose({ q, by });
  };
  const typed = filter(q, chosen);
  const states = h("div", { class: "chips", role: "group", "aria-label": "States" });
  const chips = () => {
    const now = /(?:^|\s)state:([a-z,]+)/.exec(q)?.[1] ?? "";
    const rest = q.replace(/(?:^|\s)state:[a-z,]+/, "").trim();
    const counts = app.head()?.states ?? {};
    const all = [["", "all"], ...STATES.map((state) => [state, state])];
    if (!states.childElementCount) states.append(...all.map(([, name]) => h("button", { type: "button", class: "chip" }, h("span", {}, name), h("b"))));
    all.forEach(([state], at) => {
      const chip = /** @type {HTMLButtonElement} */ (states.children[at]);
      chip.setAttribute("aria-pressed", String(state === now));
      chip.onclick = () => {
        const text = [state && `state:${state}`, rest].filter(Boolean).join(" ");
        typed.input.value = text;
        chosen(text);
      };
      const number = counts[state] ?? 0;
      say(/** @type {Element} */ (chip.lastElementChild), state && number ? count(number) : "");
    });
  };
  const group = h("select", { "aria-label": "Group by", on: { change: () => {
    go(to(["tasks"], { q, by: group.value }));
  } } },
    h("option", { value: "" }, "one by one"),
    [...GROUPS, ...(by && !GROUPS.includes(by) ? [by] : [])].map((name) => h("option", { value: name, selected: name === by }, `by ${name}`)));

  /** @type {View} */
  const view = {
    title: q ? `${q} · Tasks` : "Tasks",
    on: [table.on],
    main: [
      heading("Tasks", found, h("span", { class: "space" }), group),
      typed.element,
      states,
      table.element,
    ],
    show([picture]) {
      table.show(picture);
      const total = picture.grid?.total ?? 0;
      say(found, by ? `${count(total)} groups` : `${count(total)} ${total === 1 ? "task" : "tasks"}${picture.head.older ? `, and ${count(picture.head.older)} older` : ""}`);
      chips();
    },
    close: () => table.close(),
  };
  chips();
  return view;
}
