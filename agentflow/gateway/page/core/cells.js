// A cell: text, a link, or what the terminal draws with blocks as a drawing.

import { h, say } from "./dom.js";

/** @typedef {import("./types.js").Cell} Cell */

/** Characters of the longest bar; longer rows of blocks are values over time. */
const BAR = 12;
/** A bar, filled or empty, and its share: text that only begins with a share is text. */
const PARTLY = /^(?:[█▉▊▋▌▍▎▏][█▉▊▋▌▍▎▏ ]*| {6,})(\d+)%(.*)$/;
const BLOCKS = /^[█▉▊▋▌▍▎▏]* *$/;
const EIGHTHS = " ▏▎▍▌▋▊▉█";
const SPARKS = /^[ ▁▂▃▄▅▆▇█]{4,}$/;

/**
 * Show a cell: text, or what the terminal draws with blocks as a drawing.
 *
 * @param {HTMLElement} td
 * @param {Cell} cell
 * @param {string | null} link
 */
export function draw(td, cell, link) {
  const told = `${cell.token}\u0000${cell.text}\u0000${link ?? ""}`;
  if (told === drawn.get(td)) return;
  drawn.set(td, told);
  const right = td.classList.contains("right") ? " right" : "";
  td.className = `token-${cell.token.replaceAll(".", "-")}${right}`;
  const partly = PARTLY.exec(cell.text);
  if (partly) {
    bar(td, Number(partly[1]) / 100, `${partly[1]}%${partly[2]}`);
  } else if (cell.token.startsWith("spark") && cell.text.length <= BAR && BLOCKS.test(cell.text)) {
    bar(td, filled(cell.text), "");
  } else if (SPARKS.test(cell.text)) {
    td.replaceChildren(spark(cell.text));
  } else if (link && cell.text) {
    const a = td.firstElementChild;
    if (a instanceof HTMLAnchorElement) {
      if (a.getAttribute("href") !== link) a.href = link;
      say(a, cell.text);
    } else {
      td.replaceChildren(h("a", { href: link, dir: "auto" }, cell.text));
    }
  } else {
    say(td, cell.text);
  }
  td.title = cell.text.length > 14 ? cell.text.slice(0, 500) : "";
}

/** What was drawn last into each cell. @type {WeakMap<HTMLElement, string>} */
const drawn = new WeakMap();

/** @param {HTMLElement} td @param {number} share @param {string} text */
function bar(td, share, text) {
  const inner = h("span", { class: "fill" });
  inner.style.width = `${Math.min(100, Math.max(0, 100 * share))}%`;
  td.replaceChildren(h("span", { class: "bar" }, inner), ...(text ? [h("span", { class: "amount" }, text)] : []));
}

/** How far blocks fill their cell. @param {string} text */
function filled(text) {
  let eighths = 0;
  for (const sign of text) eighths += Math.max(0, EIGHTHS.indexOf(sign));
  return eighths / (8 * text.length);
}

/** @param {string} text */
function spark(text) {
  const bars = [...text].map((sign) => {
    const one = h("i");
    one.style.height = `${(100 * Math.max(0, " ▁▂▃▄▅▆▇█".indexOf(sign))) / 8}%`;
    return one;
  });
  return h("span", { class: "sparks", role: "img", "aria-label": "over time" }, ...bars);
}
