// Rate limits of pools, what is paused or closed, and budgets.

import { heading } from "../core/acts.js";
import { shell } from "../core/amounts.js";
import { send } from "../core/api.js";
import { h } from "../core/dom.js";
import { Table } from "../core/table.js";
import { sub } from "./overview.js";
import { stops } from "./stops.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

/** @param {import("../core/address.js").Place} _ @param {App} app @returns {View} */
export function limits(_, app) {
  const gates = stops(app);
  const changed = () => app.watch(view, on());
  const routes = new Table(app, { view: "limits", label: "Rate limits", whole: true, rows: 100, params: { fields: "read,problem,empty" }, changed });
  const budgets = new Table(app, { view: "budgets", label: "Budgets", whole: true, rows: 200, params: { fields: "read,problem,empty,rows" }, changed,
    open: undefined });
  const on = () => [routes.on, budgets.on, "queues?number=0&fields=gates"];
  /** @type {View} */
  const view = {
    title: "Limits and budgets",
    on: on(),
    main: [
      heading("Limits and budgets"),
      gates.element,
      h("section", {}, sub("Rate limits, by pool and family of models"), routes.element),
      h("section", {}, sub("Budgets"), budgets.element, app.may("admin") ? form(app) : null),
    ],
    show([limited, paid, stopped]) {
      routes.show(limited, said(limited.document));
      budgets.show(paid, said(paid.document));
      gates.show(stopped.document.gates ?? []);
    },
    close: () => (routes.close(), budgets.close()),
  };
  return view;
}

/** What stands where nothing does. @param {Record<string, any>} document */
export function said(document) {
  return document.problem || (document.read ? document.empty : "reading ...");
}

/** @param {App} app */
function form(app) {
  const scope = h("input", { name: "scope", required: true, placeholder: "queue:docs, team=docs, pool:NAME, *", "aria-label": "Scope" });
  const usd = h("input", { name: "usd", required: true, inputmode: "decimal", placeholder: "US dollars", "aria-label": "US dollars", class: "narrow" });
  const per = h("select", { "aria-label": "Begins anew each" }, ["", "day", "month"].map((each) => h("option", { value: each }, each ? `each ${each}` : "once")));
  const limit = h("select", { "aria-label": "At the limit" }, ["wait", "fail"].map((each) => h("option", { value: each }, `tasks ${each}`)));
  const path = () => `v1/budgets/${encodeURIComponent(scope.value.trim())}`;
  const set = () => {
    const words = ["agentflow", "budget", "set", scope.value.trim(), usd.value.trim()];
    if (per.value) words.push("--per", per.value);
    if (limit.value !== "wait") words.push("--on-limit", limit.value);
    app.own({
      title: `Set the budget of ${scope.value.trim()}`,
      lines: [
        `${scope.value.trim()} may cost $${usd.value.trim()}${per.value ? ` each ${per.value}` : ""}; what was spent of one that is there still counts.`,
        limit.value === "wait" ? "Tasks without room wait until there is some." : "Tasks without room fail.",
      ],
      command: shell(words),
      danger: false,
      run: async () => {
        const now = await send(path(), { limit_usd: Number(usd.value), per: per.value, on_limit: limit.value }, "PUT");
        return `set: ${now.scope} may cost $${now.limit_usd}, $${now.spent_usd} of it is spent`;
      },
    });
  };
  const remove = () => app.own({
    title: `Remove the budget of ${scope.value.trim()}`,
    lines: ["Nothing limits it any more; what waits for it goes on."],
    command: shell(["agentflow", "budget", "rm", scope.value.trim()]),
    run: async () => (await send(path(), undefined, "DELETE"), "removed"),
  });
  return h("form", { class: "row", on: { submit: (/** @type {Event} */ event) => (event.preventDefault(), set()) } },
    scope, usd, per, limit, h("button", { type: "submit" }, "Set ..."),
    h("button", { type: "button", class: "quiet", on: { click: () => scope.reportValidity() && remove() } }, "Remove ..."));
}
