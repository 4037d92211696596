// What it costs: by what, over which time, and the dearest tasks.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { money, short } from "../core/amounts.js";
import { Chart } from "../core/charts.js";
import { h, put } from "../core/dom.js";
import { Table } from "../core/table.js";
import { ofTask } from "./links.js";
import { sub } from "./overview.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */

const BY = ["model", "queue", "kind"];
const PERIODS = { hour: "last hour", day: "last day", all: "all that is known", minute: "last minute" };

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function costs(place, app) {
  const by = place.query.get("by") ?? "model";
  const period = place.query.get("period") ?? "day";
  const charts = [new Chart(), new Chart()];
  const sums = h("div", { class: "tiles" });
  const changed = () => app.watch(view, on());
  const table = new Table(app, {
    view: "costs", label: `Costs by ${by}`, whole: true, rows: 200,
    params: { by, period, fields: "cost_usd" }, empty: "nothing has cost anything", changed,
    link: (row, { key }) => (key === "name" && row.key && BY.includes(by) ? to(["tasks"], { q: `${by}:${row.key}`, sort: "-cost" }) : null),
  });
  const dearest = new Table(app, {
    view: "tasks", label: "The dearest tasks", whole: true, rows: 10, params: { sort: "-cost" },
    link: ofTask, open: (row) => to(["tasks", row.key]), changed,
  });
  const on = () => [table.on, dearest.on, "overview?number=0&fields=charts"];
  const chosen = (/** @type {string} */ name, /** @type {string} */ value) => to(["costs"], { by, period, [name]: value });
  const label = h("input", { placeholder: "label", "aria-label": "By label", class: "narrow", value: by.startsWith("label ") ? by.slice(6) : "" });
  /** @type {View} */
  const view = {
    title: "Costs",
    on: on(),
    main: [
      heading("Costs"),
      sums,
      h("div", { class: "charts" }, charts.map((chart) => chart.element)),
      h("section", {},
        h("header", { class: "sub" }, h("h2", {}, "By"),
          h("div", { class: "chips" },
            BY.map((name) => h("a", { class: "chip", href: chosen("by", name), "aria-current": name === by ? "true" : null }, name)),
            h("form", { class: "chip-form", on: { submit: (/** @type {Event} */ event) => {
              event.preventDefault();
              const link = h("a", { href: chosen("by", label.value ? `label ${label.value.trim()}` : "model") });
              document.body.append(link);
              link.click();
              link.remove();
            } } }, label)),
          h("span", { class: "space" }),
          h("div", { class: "chips" },
            Object.entries(PERIODS).map(([name, title]) => h("a", { class: "chip", href: chosen("period", name), "aria-current": name === period ? "true" : null }, title)))),
        table.element),
      h("section", {}, sub("The dearest tasks", h("a", { href: to(["tasks"], { sort: "-cost" }) }, "All")), dearest.element),
    ],
    show([spent, dear, all]) {
      table.show(spent);
      dearest.show(dear);
      const { today, hour } = spent.document.cost_usd;
      put(sums, [["Since midnight UTC", today], ["In the last hour", hour]].map(([name, value]) =>
        h("div", { class: "tile" }, h("span", { class: "name" }, name), h("b", {}, money(value)))));
      const series = all.document.charts;
      charts[0].show({ title: "Cost a minute", unit: "", step: 60, says: money, series: [{ name: "", class: "accent", values: series.cost_usd }] });
      charts[1].show({ title: "Tokens a minute", unit: "", step: 60, says: short,
        series: [{ name: "out", class: "accent", values: series.tokens_out }, { name: "in", class: "soft", values: series.tokens_in }] });
    },
    close: () => (table.close(), dearest.close()),
  };
  return view;
}
