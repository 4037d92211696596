// What needs a person, what flows and what it costs, who works, what runs.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { count, money, rate, short, span } from "../core/amounts.js";
import { Chart } from "../core/charts.js";
import { h, put, say } from "../core/dom.js";
import { Table } from "../core/table.js";
import { ofItem, ofTask } from "./links.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */
/** @typedef {import("../core/types.js").Picture} Picture */

const ROWS = 10;

/** @param {import("../core/address.js").Place} _ @param {App} app @returns {View} */
export function overview(_, app) {
  const charts = [new Chart(), new Chart(), new Chart()];
  const needs = h("ul", { class: "attention", "aria-label": "What needs attention" });
  const tiles = h("div", { class: "tiles" });
  const changed = () => app.watch(view, on());
  const running = new Table(app, {
    view: "overview", label: "Running tasks", whole: true, rows: ROWS, params: { fields: "attention,flow,charts" },
    link: ofTask, open: (row) => to(["tasks", row.key]), empty: "nothing runs", changed,
  });
  const queues = new Table(app, {
    view: "queues", label: "Queues", whole: true, rows: 8, params: { fields: "none" },
    link: (row, { key }) => (key === "queue" ? to(["queues", row.key]) : null),
    open: (row) => to(["queues", row.key]), empty: "no queues yet", changed,
  });
  const workers = new Table(app, {
    view: "workers", label: "Workers", whole: true, rows: 8, params: { fields: "none" },
    link: (row, { key }) => (key === "worker" ? to(["workers", row.key]) : null),
    open: (row) => to(["workers", row.key]), empty: "no workers: agentflow worker", changed,
  });
  const more = h("a", { href: to(["tasks"], { q: "state:running" }) }, "All");
  const on = () => [running.on, queues.on, workers.on];

  /** @param {Picture[]} pictures */
  function show([all, lines, hands]) {
    const { attention, flow, charts: series } = all.document;
    attend(needs, attention);
    tile(tiles, all, flow);
    charts[0].show({
      title: "Ended", unit: "", step: 10, stacked: true, says: (value) => count(value),
      series: [{ name: "done", class: "ok", values: series.done }, { name: "failed", class: "crit", values: series.failed }],
    });
    charts[1].show({
      title: "Tokens a minute", unit: "", step: 60, says: short,
      series: [{ name: "out", class: "accent", values: series.tokens_out }, { name: "in", class: "soft", values: series.tokens_in }],
    });
    charts[2].show({
      title: "Cost a minute", unit: "", step: 60, says: money,
      series: [{ name: "", class: "accent", values: series.cost_usd }],
    });
    running.show(all);
    queues.show(lines);
    workers.show(hands);
    say(more, `All ${count(all.head.states.running)}`);
  }

  /** @type {View} */
  const view = {
    title: "AgentFlow",
    on: on(),
    main: [
      h("h1", { class: "unseen" }, "Overview"),
      tiles,
      needs,
      h("div", { class: "charts" }, charts.map((chart) => chart.element)),
      h("div", { class: "halves" },
        h("section", {}, sub("Queues", h("a", { href: to(["queues"]) }, "All")), queues.element),
        h("section", {}, sub("Workers", h("a", { href: to(["workers"]) }, "All")), workers.element)),
      h("section", {}, sub("Running, the oldest first", more), running.element),
    ],
    show,
    close: () => [running, queues, workers].forEach((table) => table.close()),
  };
  return view;
}

/** A heading of a part. @param {string} title @param {...(Node | null)} beside */
export function sub(title, ...beside) {
  return h("header", { class: "sub" }, h("h2", {}, title), beside);
}

/** @param {Element} list @param {{ level: string, text: string, evidence: string, hint: string, command: string, argument: string }[]} items */
function attend(list, items) {
  const key = JSON.stringify(items);
  if (list.getAttribute("data-key") === key) return;
  list.setAttribute("data-key", key);
  if (!items.length) {
    put(list, h("li", { class: "calm" }, h("span", { class: "token-ok" }, "✓"), " Nothing needs you."));
    return;
  }
  put(list, items.map((item) => {
    const link = ofItem(item);
    // What the terminal says of its keys is of no use here; a command line is.
    const hint = /^key \d|^[a-zA-Z] /.test(item.hint) ? null : item.hint;
    return h("li", { class: `item ${item.level}` },
      h("span", { class: "level" }, item.level === "crit" ? "critical" : "warning"),
      h("span", { class: "what", dir: "auto" }, link ? h("a", { href: link }, item.text) : item.text),
      h("span", { class: "evidence", dir: "auto" }, item.evidence),
      hint ? h("code", {}, hint) : null);
  }));
}

/** @param {Element} tiles @param {Picture} all @param {any} flow */
function tile(tiles, all, flow) {
  const { head } = all;
  const minutes = Math.round(flow.window_s / 60);
  const told = [
    ["Running", count(head.states.running), `${rate(flow.done_per_s)} end a second`, to(["tasks"], { q: "state:running" }), ""],
    ["Queued", count(head.states.queued), `wait ${span(flow.wait_s.p50)}, 95 % ${span(flow.wait_s.p95)}`, to(["tasks"], { q: "state:queued" }), ""],
    [`Done in ${minutes} min`, count(flow.done), `run ${span(flow.run_s.p50)}, 95 % ${span(flow.run_s.p95)}`, to(["tasks"], { q: "state:succeeded" }), ""],
    [`Failed in ${minutes} min`, count(flow.failed), `${count(head.states.failed)} known`, to(["tasks"], { q: "state:failed" }), flow.failed ? "crit" : ""],
    ["Dead letters", count(head.dead_letters), head.dead_letters ? "by cause, and what to do" : "nothing failed for good", to(["dead"]), head.dead_letters ? "warn" : ""],
    ["Cost a minute", money(flow.cost_usd_per_min), "the last whole one", to(["costs"]), ""],
  ];
  if (!tiles.childElementCount) {
    put(tiles, told.map(([name, , , link]) =>
      h("a", { class: "tile", href: link }, h("span", { class: "name" }, name), h("b"), h("span", { class: "more" }))));
  }
  told.forEach(([, value, more, , token], at) => {
    const each = tiles.children[at];
    say(each.children[1], value);
    each.children[1].className = token ? `token-${token}` : "";
    say(each.children[2], more);
  });
}
