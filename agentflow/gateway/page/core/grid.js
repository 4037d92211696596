// A table of rows that the gateway tells. Only what is seen has elements, so ten thousand rows cost
// no more than fifty; the gateway is asked for the part around what is seen (`want`).

import { fit } from "./fit.js";
import { draw } from "./cells.js";
import { h } from "./dom.js";

/** @typedef {import("./types.js").Grid} Told */
/** @typedef {import("./types.js").Row} Row */
/** @typedef {import("./types.js").Heading} Heading */
/** @typedef {import("./types.js").Cell} Cell */

/**
 * @typedef {object} Traits
 * @property {string} label what the table is, for who cannot see it
 * @property {(row: Row, heading: Heading, cell: Cell) => string | null} [link] where a cell leads
 * @property {(row: Row) => string | null} [open] where a row leads
 * @property {(sort: string) => void} [sort] another order is wanted
 * @property {(first: number, number: number) => void} [want] other rows are wanted
 * @property {(marks: Set<string>) => void} [marked] rows can be marked
 * @property {string} [empty]
 */

/** Rows that are asked for around what is seen. */
export const PART = 240;
const STEP = 60;
const AROUND = 8;
const SETTLED = 60;
/** Pixels at the sides of a cell, and characters that a sorted heading's arrow needs. */
const PADDING = 23;
const ARROW = 1.6;
const MARK = 40;

export class Grid {
  /** @param {Traits} traits */
  constructor(traits) {
    this.traits = traits;
    /** @type {Told | null} */
    this.told = null;
    /** @type {Set<string>} */
    this.marks = new Set();
    this.body = h("tbody");
    this._head = h("tr");
    this._columns = h("colgroup");
    this._above = gap();
    this._below = gap();
    this.table = h(
      "table",
      { "aria-label": traits.label },
      this._columns,
      h("thead", {}, this._head),
      this.body,
    );
    this._nothing = h("p", { class: "nothing", hidden: true });
    this.element = h(
      "div",
      { class: traits.want ? "grid scrolls" : "grid", tabindex: traits.want ? 0 : null, role: traits.want ? "region" : null, "aria-label": traits.want ? traits.label : null, on: { scroll: () => this._scrolled() } },
      this.table,
      this._nothing,
    );
    /** @type {Map<string, HTMLTableRowElement>} */
    this._rows = new Map();
    /** @type {{ place: number, width: number }[]} */
    this._shown = [];
    /** What the headings were drawn from. @type {unknown[]} */
    this._drawn = [];
    this._frame = 0;
    this._settle = 0;
    this._wanted = 0;
    this._last = "";
    /** Sizes as they were measured last: to measure makes the browser lay out what is not done. */
    this._measured = { all: 0, one: 7.5, row: 34 };
    this._sizes = new ResizeObserver(() => {
      this._measured.all = 0;
      this._soon();
    });
    this._sizes.observe(this.element);
  }

  close() {
    this._sizes.disconnect();
    cancelAnimationFrame(this._frame);
    clearTimeout(this._settle);
  }

  /** @param {Told | null} told @param {string} [empty] */
  show(told, empty) {
    if (!told) return;
    this.told = told;
    this._nothing.textContent = empty ?? this.traits.empty ?? "nothing here";
    this._nothing.hidden = told.total > 0;
    this._soon();
  }

  /** Another table begins: at its top, with nothing marked. */
  restart() {
    this.element.scrollTop = 0;
    this._wanted = 0;
    this.marks.clear();
    this.traits.marked?.(this.marks);
  }

  _soon() {
    if (!this._frame) {
      this._frame = requestAnimationFrame(() => {
        this._frame = 0;
        this._draw();
      });
    }
  }

  _scrolled() {
    this._draw();
    clearTimeout(this._settle);
    this._settle = window.setTimeout(() => this._ask(), SETTLED);
  }

  /** Ask for the rows around what is seen, where they are not all there. */
  _ask() {
    const { told, traits } = this;
    if (!told || !traits.want) return;
    const { first, last } = this._range(told);
    const have = told.first + told.rows.length;
    const enough = first >= told.first && (last <= have || have >= told.total);
    const middle = Math.floor((first + last) / 2 / STEP) * STEP;
    const wanted = Math.max(0, middle - PART / 2);
    if (!enough && wanted !== this._wanted) {
      this._wanted = wanted;
      traits.want(wanted, PART);
    }
  }

  /** @param {Told} told */
  _range(told) {
    if (!this.traits.want) return { first: told.first, last: told.first + told.rows.length };
    const height = this._room().row;
    const top = Math.max(0, this.element.scrollTop);
    const first = Math.max(0, Math.floor(top / height) - AROUND);
    const last = Math.min(told.total, Math.ceil((top + this.element.clientHeight) / height) + AROUND);
    return { first: Math.min(first, last), last };
  }

  _draw() {
    const told = this.told;
    if (!told || !this.element.isConnected) return;
    this._headings(told);
    const { first, last } = this._range(told);
    const height = this._room().row;
    stretch(this._above, first * height, told.headings.length + 1);
    const after = this.traits.want ? told.total - last : 0;
    stretch(this._below, after * height, told.headings.length + 1);
    const rows = [];
    const kept = new Map();
    for (let place = first; place < last; place++) {
      const row = told.rows[place - told.first];
      const key = row ? row.key : `\u0000${place}`;
      if (kept.has(key)) continue;
      const made = this._rows.get(key) ?? this._blank(key, row);
      if (row) this._fill(made, row, place, told);
      kept.set(key, made);
      rows.push(made);
    }
    this._rows = kept;
    place(this.body, [this._above, ...rows, this._below]);
    this.table.setAttribute("aria-rowcount", String(told.total + 1));
  }

  /** @param {string} key @param {Row | undefined} row */
  _blank(key, row) {
    // A row that has not come yet is as tall as any, or all below it would move.
    const made = row ? h("tr") : h("tr", { class: "coming" }, h("td", { colspan: this._shown.length + 1 }));
    const open = this.traits.open;
    if (row && open) {
      made.addEventListener("click", (event) => {
        // A link, a box or a selection of text is meant for itself.
        if (event.target instanceof Element && event.target.closest("a, input, button, label")) return;
        if (String(getSelection())) return;
        const told = this.told?.rows.find((each) => each.key === key);
        const address = told && open(told);
        if (address) {
          const link = h("a", { href: address });
          document.body.append(link);
          link.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey: event.ctrlKey, metaKey: event.metaKey }));
          link.remove();
        }
      });
      made.classList.add("opens");
    }
    return made;
  }

  /** @param {HTMLTableRowElement} made @param {Row} row @param {number} place @param {Told} told */
  _fill(made, row, place, told) {
    made.setAttribute("aria-rowindex", String(place + 2));
    made.classList.toggle("odd", place % 2 === 1);
    const marks = this.traits.marked ? 1 : 0;
    if (made.dataset.columns !== this._last) {
      made.dataset.columns = this._last;
      made.replaceChildren();
      if (marks) made.append(h("td", { class: "mark" }, this._box(row)));
      for (const { place: at } of this._shown) {
        made.append(h("td", { class: told.headings[at].right ? "right" : null }));
      }
    }
    this._shown.forEach(({ place: at }, index) => {
      const cell = row.cells[at];
      const td = /** @type {HTMLElement} */ (made.children[index + marks]);
      if (cell && td) draw(td, cell, this.traits.link?.(row, told.headings[at], cell) ?? null);
    });
    if (marks) {
      const marked = this.marks.has(row.key);
      made.classList.toggle("marked", marked);
      const box = made.querySelector("input");
      if (box && box.checked !== marked) box.checked = marked;
    }
  }

  /** @param {Row} row */
  _box(row) {
    return h("input", {
      type: "checkbox",
      "aria-label": `Mark ${row.key}`,
      on: {
        click: (/** @type {MouseEvent} */ event) => {
          const box = /** @type {HTMLInputElement} */ (event.target);
          const rows = this.told?.rows ?? [];
          const at = rows.findIndex((each) => each.key === row.key);
          const from = event.shiftKey ? rows.findIndex((each) => each.key === this._marker) : at;
          for (let each = Math.min(at, from < 0 ? at : from); each <= Math.max(at, from); each++) {
            if (box.checked) this.marks.add(rows[each].key);
            else this.marks.delete(rows[each].key);
          }
          this._marker = row.key;
          this._marked();
        },
      },
    });
  }

  _marked() {
    this.traits.marked?.(this.marks);
    this._draw();
  }

  /** Mark these, or nothing. @param {Iterable<string>} keys */
  mark(keys) {
    this.marks = new Set(keys);
    this._marked();
  }

  /** @param {Told} told */
  _headings(told) {
    const room = this._room();
    const marks = this.traits.marked ? 1 : 0;
    const drawn = [told.headings, told.sort, told.reverse, room.all, room.one];
    if (drawn.every((each, at) => each === this._drawn[at])) return;
    this._drawn = drawn;
    const pad = PADDING / room.one;
    const box = marks ? MARK / room.one : 0;
    this._shown = fit(told.headings.map(titled), room.all - box - 1.6, pad);
    this._last = this._shown.map((each) => told.headings[each.place].key).join(" ");
    const whole = this._shown.reduce((sum, each) => sum + each.width + pad, box);
    const columns = marks ? [wide(box / whole)] : [];
    this._columns.replaceChildren(...columns, ...this._shown.map((each) => wide((each.width + pad) / whole)));
    const cells = this._shown.map(({ place: at }) => this._heading(told, told.headings[at]));
    this._head.replaceChildren(...(marks ? [h("th", { class: "mark", "aria-label": "Marked" })] : []), ...cells);
  }

  /** Characters that a row has room for, and the pixels of one and of a row. */
  _room() {
    if (this._measured.all) return this._measured;
    if (!this._ruler) {
      this._ruler = h("span", { class: "ruler", "aria-hidden": "true" }, "00000000000000000000");
      this.element.append(this._ruler);
    }
    const one = this._ruler.getBoundingClientRect().width / 20 || 7.5;
    const row = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 34;
    this._measured = { all: this.element.clientWidth / one, one, row };
    return this._measured;
  }

  /** @param {Told} told @param {Heading} heading */
  _heading(told, heading) {
    const sorted = told.sort === heading.key;
    const sort = this.traits.sort;
    const th = h("th", { scope: "col", class: heading.right ? "right" : null, title: heading.title });
    if (sorted) th.setAttribute("aria-sort", told.reverse ? "descending" : "ascending");
    if (!heading.sorts || !sort) {
      th.append(heading.title);
      return th;
    }
    const turned = sorted ? !told.reverse : heading.falling;
    th.append(
      h(
        "button",
        { type: "button", on: { click: () => sort((turned ? "-" : "") + heading.key) } },
        heading.title,
        h("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (told.reverse ? "↓" : "↑") : ""),
      ),
    );
    return th;
  }
}

/** A heading with room for its own title. @param {Heading} heading @returns {Heading} */
function titled(heading) {
  const title = heading.title.length * 0.98 + (heading.sorts ? ARROW : 0);
  return { ...heading, width: Math.max(heading.width, Math.ceil(title)) };
}

/** @param {number} share */
function wide(share) {
  const col = h("col");
  col.style.width = `${(100 * share).toFixed(3)}%`;
  return col;
}

function gap() {
  return h("tr", { class: "gap", "aria-hidden": "true" }, h("td"));
}

/** @param {HTMLTableRowElement} row @param {number} height @param {number} columns */
function stretch(row, height, columns) {
  row.hidden = height <= 0;
  const td = /** @type {HTMLTableCellElement} */ (row.firstElementChild);
  td.colSpan = columns;
  td.style.height = `${height}px`;
}

/** Bring children into this order, moving as few as can be. @param {Element} parent @param {Element[]} wanted */
function place(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
}
