// Names and values, as a list of definitions.

import { h, put, say } from "./dom.js";

/** @typedef {[name: string, value: string | Node | null | undefined, token?: string]} Fact */

/** Show these; what stays the same is left alone. @param {Element} list @param {Fact[]} told */
export function facts(list, told) {
  const given = told.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const key = given.map(([name]) => name).join("\u0000");
  if (list.getAttribute("data-names") !== key) {
    list.setAttribute("data-names", key);
    put(list, given.map(([name]) => h("div", {}, h("dt", {}, name), h("dd", { dir: "auto" }))));
  }
  given.forEach(([, value, token], at) => {
    const dd = /** @type {Element} */ (list.children[at].lastElementChild);
    dd.className = token ? `token-${token}` : "";
    if (value instanceof Node) dd.replaceChildren(value);
    else say(dd, String(value));
  });
}
