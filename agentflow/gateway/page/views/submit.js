// The form for a new task: its fields and what is wrong with them come from the gateway.

import { heading } from "../core/acts.js";
import { go, to } from "../core/address.js";
import { get, send } from "../core/api.js";
import { copying, h, put, say } from "../core/dom.js";

/** @typedef {import("../core/types.js").App} App */
/** @typedef {import("../core/types.js").View} View */
/** @typedef {{ name: string, title: string, kind: string, choices: string[], value: string, hint: string }} Field */

/** @param {import("../core/address.js").Place} place @param {App} app @returns {View} */
export function submit(place, app) {
  /** @type {Map<string, HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>} */
  const inputs = new Map();
  /** @type {Map<string, HTMLElement>} */
  const problems = new Map();
  const form = h("form", { class: "fields" });
  const command = h("code");
  const estimate = h("ul", { class: "notes" });
  const done = h("p", { class: "said", role: "status" });
  const send_ = h("button", { type: "submit", class: "primary" }, "Submit");
  let asked = 0;
  let timer = 0;
  /** @type {Record<string, any>} */
  let task = {};

  const values = () => Object.fromEntries([...inputs].map(([name, input]) => [name, input.value]));
  const judge = async () => {
    const mine = ++asked;
    try {
      const judged = await send("v1/submission/check", { values: values() });
      if (mine !== asked) return false;
      const empty = !values().prompt.trim();
      for (const [name, said] of problems) say(said, empty && name === "prompt" ? "" : (judged.problems[name] ?? ""));
      say(command, judged.command);
      put(estimate, judged.estimate.map((/** @type {string} */ text) => h("li", {}, text)));
      task = judged.task;
      send_.disabled = Object.keys(judged.problems).length > 0;
      return !send_.disabled;
    } catch (error) {
      say(done, error instanceof Error ? error.message : String(error));
      return false;
    }
  };
  /** @param {Field} field */
  const row = (field) => {
    const traits = { id: `field-${field.name}`, name: field.name, placeholder: field.hint, dir: "auto" };
    const value = place.query.get(field.name) ?? field.value;
    const input = field.kind === "text" ? h("textarea", { ...traits, rows: 7 }, value)
      : field.kind === "choice" ? h("select", traits, field.choices.map((each) => h("option", { selected: each === value }, each)))
      : h("input", { ...traits, value, autocomplete: "off", list: field.choices.length ? `choices-${field.name}` : null });
    const problem = h("p", { class: "problem", role: "alert" });
    inputs.set(field.name, input);
    problems.set(field.name, problem);
    return h("div", { class: `field field-${field.name}` },
      h("label", { for: traits.id }, field.title), input,
      field.kind === "line" && field.choices.length ? h("datalist", { id: `choices-${field.name}` }, field.choices.map((each) => h("option", { value: each }))) : null,
      problem);
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = window.setTimeout(judge, 200);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!(await judge())) return;
    send_.disabled = true;
    try {
      const stored = await send("v1/tasks", task);
      app.tell(stored.known ? `${stored.id} was known already` : `${stored.id} is stored`, "ok");
      go(to(["tasks", stored.id]));
    } catch (error) {
      say(done, error instanceof Error ? error.message : String(error));
      done.className = "said token-crit";
      send_.disabled = false;
    }
  });
  get("v1/submission").then((/** @type {Field[]} */ fields) => {
    put(form, fields.map(row), h("div", { class: "choice" }, send_, done));
    inputs.get("prompt")?.focus();
    judge();
  }, (error) => app.tell(error.message, "crit"));
  return {
    title: "New task",
    main: [
      heading("New task"),
      h("div", { class: "submit" }, form,
        h("aside", { class: "means" }, h("h2", {}, "What it means"), estimate,
          h("h2", {}, "The same from a shell"), h("div", { class: "command" }, command, copying(() => command.textContent ?? "")))),
    ],
  };
}
