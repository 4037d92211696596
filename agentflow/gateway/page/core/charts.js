// Series over time as drawings: an area or bars, the highest value, and what is under the pointer.

import { h, put, s } from "./dom.js";

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} class
 * @property {number[]} values the newest last
 */

/**
 * @typedef {object} Drawing
 * @property {string} title
 * @property {Series[]} series
 * @property {number} step seconds from one value to the next
 * @property {(value: number) => string} says a value in words
 * @property {string} unit
 * @property {boolean} [stacked]
 */

const WIDE = 600;
const TALL = 120;
/** Values that are drawn at least. */
const FEWEST = 15;

export class Chart {
  constructor() {
    this._svg = s("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img" });
    this._now = h("span", { class: "figures" });
    this._title = h("h3");
    this._top = h("span", { class: "top-value" });
    this._from = h("span");
    this.element = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, this._title, this._now),
      h("div", { class: "plot" }, this._top, this._svg),
      h("div", { class: "axis", "aria-hidden": "true" }, this._from, h("span", {}, "now")),
    );
    this._svg.addEventListener("pointermove", (event) => this._point(event));
    this._svg.addEventListener("pointerleave", () => this._figures(null));
    /** @type {Drawing | null} */
    this._drawing = null;
    this._key = "";
  }

  /** @param {Drawing} whole */
  show(whole) {
    const drawing = begun(whole);
    this._drawing = drawing;
    const key = JSON.stringify(drawing.series);
    if (key === this._key) return;
    this._key = key;
    const number = Math.max(2, ...drawing.series.map((each) => each.values.length));
    const sums = Array.from({ length: number }, (_, at) =>
      drawing.series.reduce((sum, each) => sum + (each.values[at] ?? 0), 0),
    );
    const singles = drawing.series.flatMap((each) => each.values);
    const top = Math.max(...(drawing.stacked ? sums : singles), 0);
    this._title.textContent = drawing.title;
    this._top.textContent = top > 0 ? drawing.says(top) : "";
    this._from.textContent = ago(number * drawing.step);
    const base = new Array(number).fill(0);
    const areas = drawing.series.map((each) => {
      const lower = [...base];
      const upper = each.values.map((value, at) => (drawing.stacked ? lower[at] + value : value));
      if (drawing.stacked) upper.forEach((value, at) => (base[at] = value));
      return area(each.class, lower, upper, top || 1, number, Boolean(drawing.stacked));
    });
    this._mark = s("line", { class: "mark", y1: 0, y2: TALL, visibility: "hidden" });
    const lines = [0.25, 0.5, 0.75].map((part) => s("line", { class: "rule", x1: 0, x2: WIDE, y1: TALL * part, y2: TALL * part }));
    put(this._svg, ...lines, ...areas.reverse().flat(), this._mark);
    this._figures(null);
    this._svg.setAttribute("aria-label", `${drawing.title}, ${this._now.textContent}, at most ${drawing.says(top)}`);
  }

  /** @param {number | null} at */
  _figures(at) {
    const drawing = this._drawing;
    if (!drawing) return;
    const last = drawing.series[0].values.length - 1;
    const place = at ?? last;
    const parts = drawing.series.map((each) =>
      h("span", { class: `figure ${each.class}` }, h("b", {}, drawing.says(each.values[place] ?? 0)), ` ${each.name}`),
    );
    put(this._now, at === null ? null : h("span", { class: "dim" }, `${ago((last - place) * drawing.step)} `), ...parts);
    if (at === null) this._mark?.setAttribute("visibility", "hidden");
  }

  /** @param {Event} event */
  _point(event) {
    const drawing = this._drawing;
    if (!drawing || !(event instanceof PointerEvent)) return;
    const box = this._svg.getBoundingClientRect();
    const number = drawing.series[0].values.length;
    const at = Math.round(((event.clientX - box.left) / box.width) * (number - 1));
    const place = Math.min(number - 1, Math.max(0, at));
    const x = (place / (number - 1)) * WIDE;
    this._mark?.setAttribute("x1", String(x));
    this._mark?.setAttribute("x2", String(x));
    this._mark?.setAttribute("visibility", "visible");
    this._figures(place);
  }
}

/** Without the time before anything happened. @param {Drawing} drawing @returns {Drawing} */
function begun(drawing) {
  const lengths = drawing.series.map((each) => each.values.length);
  const firsts = drawing.series.map((each) => each.values.findIndex((value) => value > 0)).filter((at) => at >= 0);
  const begin = Math.max(0, Math.min(...firsts, ...lengths) - 1);
  const from = Math.min(begin, Math.max(...lengths) - FEWEST);
  if (from <= 0) return drawing;
  return { ...drawing, series: drawing.series.map((each) => ({ ...each, values: each.values.slice(from) })) };
}

/** @param {number} seconds */
function ago(seconds) {
  if (seconds <= 0) return "now";
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

/**
 * @param {string} name
 * @param {number[]} lower
 * @param {number[]} upper
 * @param {number} top
 * @param {number} number
 * @param {boolean} stacked
 */
function area(name, lower, upper, top, number, stacked) {
  const x = (/** @type {number} */ at) => ((at / (number - 1)) * WIDE).toFixed(1);
  const y = (/** @type {number} */ value) => (TALL - 2 - (value / top) * (TALL - 8)).toFixed(1);
  const up = upper.map((value, at) => `${at ? "L" : "M"}${x(at)} ${y(value)}`).join("");
  const down = lower.slice(0, upper.length).map((value, at) => `L${x(at)} ${y(stacked ? value : 0)}`);
  return [
    s("path", { class: `area ${name}`, d: `${up}${down.reverse().join("")}Z` }),
    s("path", { class: `line ${name}`, d: up, "vector-effect": "non-scaling-stroke" }),
  ];
}
