// A table of a view, with its order in the address, and what can be done to the rows that are marked.

import { button, h, put } from "./dom.js";
import { Grid, PART } from "./grid.js";
import { count } from "./amounts.js";
import { mark } from "./address.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Picture} Picture */
/** @typedef {import("./types.js").Row} Row */

/**
 * @typedef {object} Spec
 * @property {string} view
 * @property {string} label
 * @property {Record<string, string>} [params] what is chosen of the view
 * @property {(row: Row, heading: import("./types.js").Heading, cell: import("./types.js").Cell) => string | null} [link]
 * @property {(row: Row) => string | null} [open]
 * @property {{ act: string, title: string, role?: string }[]} [acts]
 * @property {(keys: string[]) => Promise<string[]>} [targets] what an act on these rows is done to
 * @property {() => Promise<string[]>} [all] all keys that fit, where the gateway has more than were told
 * @property {boolean} [whole] all rows are seen at once, `rows` at most
 * @property {number} [rows]
 * @property {string} [empty]
 * @property {() => void} changed something else is wanted of the gateway
 */

export class Table {
  /** @param {App} app @param {Spec} spec */
  constructor(app, spec) {
    this._app = app;
    this.spec = spec;
    this.params = spec.params ?? {};
    this.sort = new URLSearchParams(location.search).get("sort") ?? "";
    if (spec.whole) this.sort = "";
    this._first = 0;
    const can = (spec.acts ?? []).filter(({ role }) => app.may(role ?? "operator"));
    this.bar = h("div", { class: "marked-bar", hidden: true });
    this.grid = new Grid({
      label: spec.label,
      link: spec.link,
      open: spec.open,
      empty: spec.empty,
      sort: spec.whole && !spec.rows ? undefined : (sort) => this._sorted(sort),
      want: spec.whole ? undefined : (first) => this._part(first),
      marked: can.length ? (marks) => this._bar(marks, can) : undefined,
    });
    this.element = h("div", { class: "table" }, this.bar, this.grid.element);
  }

  /** What is asked of the gateway. */
  get on() {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(this.params)) if (value) params.set(name, value);
    if (this.sort && !params.has("sort")) params.set("sort", this.sort);
    if (this._first) params.set("first", String(this._first));
    params.set("number", String(this.spec.whole ? (this.spec.rows ?? PART) : PART));
    return `${this.spec.view}?${params}`;
  }

  close() {
    this.grid.close();
  }

  /** @param {Picture} picture @param {string} [empty] */
  show(picture, empty) {
    this.grid.show(picture.grid, empty);
  }

  /** Choose other rows. @param {Record<string, string>} params */
  choose(params) {
    this.params = params;
    this._first = 0;
    this.grid.restart();
    this.spec.changed();
  }

  /** @param {number} first */
  _part(first) {
    this._first = first;
    this.spec.changed();
  }

  /** @param {string} sort */
  _sorted(sort) {
    this.sort = sort;
    delete this.params.sort;
    this._first = 0;
    if (!this.spec.whole) {
      mark({ sort });
      this.grid.element.scrollTop = 0;
    }
    this.spec.changed();
  }

  /** @param {Set<string>} marks @param {{ act: string, title: string }[]} can */
  _bar(marks, can) {
    this.bar.hidden = !marks.size;
    if (!marks.size) return;
    const total = this.grid.told?.total ?? 0;
    const all = this.spec.all;
    put(
      this.bar,
      h("b", {}, `${count(marks.size)} marked`),
      can.map(({ act, title }) => button(title, () => this._act(act), { class: "small" })),
      all && total > marks.size
        ? button(`Mark all ${count(total)}`, () => all().then((keys) => this.grid.mark(keys), (error) => this._app.tell(String(error.message), "crit")), { class: "quiet small" })
        : null,
      button("Unmark", () => this.grid.mark([]), { class: "quiet small" }),
    );
  }

  /** @param {string} act */
  async _act(act) {
    const keys = [...this.grid.marks];
    try {
      this._app.act(act, this.spec.targets ? await this.spec.targets(keys) : keys);
    } catch (error) {
      this._app.tell(error instanceof Error ? error.message : String(error), "crit");
    }
  }
}
