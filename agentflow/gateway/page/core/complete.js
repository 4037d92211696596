// The filter that is typed: judged as it is typed, with what may come next.

import { get } from "./api.js";
import { h, put } from "./dom.js";

/** @typedef {{ problem: string, fields: string[], values: Record<string, string[]> }} Known */

const NUMBERS = new Set(["cost", "age", "wait", "run", "attempt", "failures", "tokens", "out"]);
const MOST = 9;

/**
 * What may stand in the place of the word before the cursor. Pure.
 *
 * @param {string} text up to the cursor
 * @param {Known} known
 * @returns {string[]} words
 */
export function completions(text, known) {
  const word = text.slice(Math.max(text.lastIndexOf(" "), text.lastIndexOf("\t")) + 1);
  if (!word) return [];
  const not = word.startsWith("!") ? "!" : "";
  const bare = word.slice(not.length);
  const colon = bare.indexOf(":");
  if (colon < 0) {
    return known.fields
      .filter((field) => field.startsWith(bare) && field !== bare)
      .map((field) => not + field + (NUMBERS.has(field) ? ">" : ":"))
      .slice(0, MOST);
  }
  const field = bare.slice(0, colon);
  const begun = bare.slice(colon + 1);
  const comma = begun.lastIndexOf(",") + 1;
  return (known.values[field] ?? [])
    .filter((value) => value.startsWith(begun.slice(comma)) && value !== begun.slice(comma))
    .map((value) => `${not}${field}:${begun.slice(0, comma)}${/[\s"']/.test(value) ? `"${value}"` : value}`)
    .slice(0, MOST);
}

/**
 * A field for a filter. `take` gets each text that can be applied.
 *
 * @param {string} value
 * @param {(text: string) => void} take
 */
export function filter(value, take) {
  /** @type {Known} */
  let known = { problem: "", fields: [], values: {} };
  let asked = 0;
  let chosen = -1;
  let timer = 0;
  const list = h("ul", { role: "listbox", id: "completions", hidden: true });
  const problem = h("p", { class: "problem", role: "alert" });
  const input = h("input", {
    type: "search",
    class: "query",
    value,
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    placeholder: "Filter: state:failed label:team=docs cost>0.1 …",
    role: "combobox",
    "aria-label": "Filter",
    "aria-controls": "completions",
    "aria-expanded": "false",
    "aria-autocomplete": "list",
  });

  const learn = async () => {
    const mine = ++asked;
    const text = input.value;
    try {
      const told = await get(`v1/query?${new URLSearchParams({ q: text })}`);
      if (mine !== asked) return;
      known = told;
      problem.textContent = known.problem;
      input.setAttribute("aria-invalid", String(Boolean(known.problem)));
      if (!known.problem) take(text.trim());
      if (document.activeElement === input) offer();
    } catch {
      // The connection is told of elsewhere.
    }
  };
  const before = () => input.value.slice(0, input.selectionStart ?? input.value.length);
  const offer = () => {
    const words = completions(before(), known);
    chosen = -1;
    put(
      list,
      words.map((word) =>
        h("li", { role: "option", on: { mousedown: (/** @type {Event} */ event) => (event.preventDefault(), accept(word)) } }, word),
      ),
    );
    list.hidden = !words.length;
    input.setAttribute("aria-expanded", String(words.length > 0));
  };
  const accept = (/** @type {string} */ word) => {
    const text = before();
    const rest = input.value.slice(text.length);
    const begin = text.slice(0, Math.max(text.lastIndexOf(" "), text.lastIndexOf("\t")) + 1);
    const done = /[:>]$/.test(word) ? word : `${word} `;
    input.value = begin + done + rest.trimStart();
    input.setSelectionRange((begin + done).length, (begin + done).length);
    offer();
    learn();
  };
  const choose = (/** @type {number} */ step) => {
    const options = [...list.children];
    chosen = (chosen + step + options.length) % options.length;
    options.forEach((option, at) => option.setAttribute("aria-selected", String(at === chosen)));
  };
  input.addEventListener("input", () => {
    offer();
    clearTimeout(timer);
    timer = window.setTimeout(learn, 150);
  });
  input.addEventListener("keydown", (event) => {
    if (!list.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      choose(event.key === "ArrowDown" ? 1 : -1);
    } else if (!list.hidden && (event.key === "Tab" || event.key === "Enter") && (chosen >= 0 || event.key === "Tab")) {
      accept(list.children[Math.max(0, chosen)].textContent ?? "");
    } else if (event.key === "Enter") {
      list.hidden = true;
      learn();
      return;
    } else if (event.key === "Escape" && !list.hidden) {
      list.hidden = true;
    } else {
      return;
    }
    event.preventDefault();
  });
  input.addEventListener("focus", learn);
  input.addEventListener("blur", () => (list.hidden = true));
  return { element: h("div", { class: "filter" }, input, list, problem), input };
}
