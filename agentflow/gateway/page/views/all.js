// The views by the first part of their address.

import { heading } from "../core/acts.js";
import { to } from "../core/address.js";
import { h } from "../core/dom.js";
import { costs } from "./costs.js";
import { dead } from "./dead.js";
import { events } from "./events.js";
import { jobs } from "./jobs.js";
import { limits } from "./limits.js";
import { overview } from "./overview.js";
import { queues } from "./queues.js";
import { submit } from "./submit.js";
import { task } from "./task.js";
import { tasks } from "./tasks.js";
import { workers } from "./workers.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */
/** @typedef {import("../core/address.js").Place} Place */

/** @type {{ name: string, title: string, key: string, make: (place: Place, app: App) => View }[]} */
export const VIEWS = [
  { name: "overview", title: "Overview", key: "o", make: overview },
  { name: "tasks", title: "Tasks", key: "t", make: (place, app) => (place.path[1] ? task(place, app) : tasks(place, app)) },
  { name: "jobs", title: "Jobs", key: "j", make: jobs },
  { name: "workers", title: "Workers", key: "w", make: workers },
  { name: "queues", title: "Queues", key: "q", make: queues },
  { name: "limits", title: "Limits", key: "l", make: limits },
  { name: "costs", title: "Costs", key: "c", make: costs },
  { name: "dead", title: "Dead letters", key: "d", make: dead },
  { name: "events", title: "Events", key: "e", make: events },
];

/** @param {Place} place @param {App} app @returns {View} */
export function viewAt(place, app) {
  const name = place.path[0] ?? "overview";
  if (name === "submit") return submit(place, app);
  const found = VIEWS.find((view) => view.name === name);
  if (found) return found.make(place, app);
  return {
    title: "Not here",
    main: [heading("There is nothing here"), h("p", {}, h("a", { href: to([]) }, "To the overview"))],
  };
}
