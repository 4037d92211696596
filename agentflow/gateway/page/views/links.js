// Where the cells of a table lead: the same column leads to the same thing everywhere.

import { to } from "../core/address.js";

/** @typedef {import("../core/types.js").Row} Row */
/** @typedef {import("../core/types.js").Heading} Heading */
/** @typedef {import("../core/types.js").Cell} Cell */

/** Cells of a table of tasks. @param {Row} row @param {Heading} heading @param {Cell} cell */
export function ofTask(row, heading, cell) {
  if (heading.key === "id") return to(["tasks", row.key]);
  if (heading.key === "queue" && cell.text) return to(["queues", cell.text]);
  return null;
}

/** The view that something which needs attention leads to. @param {{ command: string, argument: string }} item */
export function ofItem(item) {
  if (item.command === "view") return to([item.argument]);
  if (item.command === "show_tasks") return to(["tasks"], { q: item.argument });
  if (item.command === "task" || item.command === "open_task") return to(["tasks", item.argument]);
  return null;
}
