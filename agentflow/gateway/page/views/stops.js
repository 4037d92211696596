// All that is paused or closed, and the way to let it go on.

import { stamp } from "../core/amounts.js";
import { button, h, put } from "../core/dom.js";

/** @typedef {{ key: string, what: string, name: string, reason: string | null, message: string | null, actor: string, until: string | null, since?: string | null }} Gate */

/** @param {import("../core/types.js").App} app */
export function stops(app) {
  const list = h("ul", { class: "attention", "aria-label": "What is paused or closed" });
  let key = "";
  return {
    element: list,
    /** @param {Gate[]} gates */
    show(gates) {
      const now = JSON.stringify(gates);
      if (now === key) return;
      key = now;
      put(list, gates.map((gate) => {
        const target = gate.what === "queue" ? gate.name : gate.key;
        const word = gate.what === "pool" || gate.what === "budget" ? "closed" : "paused";
        return h("li", { class: "item warn" },
          h("span", { class: "level" }, word),
          h("span", { class: "what", dir: "auto" }, `${gate.what} ${gate.name}`),
          h("span", { class: "evidence", dir: "auto" },
            [gate.reason, gate.message, gate.actor && `by ${gate.actor}`, gate.until && `until ${stamp(gate.until)}`].filter(Boolean).join(", ")),
          app.may("operator") && gate.what !== "budget" ? button("Resume", () => app.act("resume", [target]), { class: "small" }) : null);
      }));
    },
  };
}
