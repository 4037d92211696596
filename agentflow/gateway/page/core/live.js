// One stream for all that a page shows. It comes again by itself, and says how it stands.
//
// A browser opens six connections to a host for all tabs together, so a page has one, and one that
// nobody sees has none: it begins again when it is looked at.

import { get, Problem } from "./api.js";
import { patched } from "./patches.js";

/** @typedef {import("./types.js").Picture} Picture */
/** @typedef {"connecting" | "live" | "lost" | "refused" | "resting"} Standing */

const SILENT = 20_000;
const REST_AFTER = 15_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 5000;

export class Live {
  /** @param {(standing: Standing, detail: string) => void} stands */
  constructor(stands) {
    this._stands = stands;
    /** @type {EventSource | null} */
    this._source = null;
    /** @type {EventSource | null} the one that takes its place once it tells something */
    this._next = null;
    /** @type {string[]} */
    this._on = [];
    /** @type {Picture[]} */
    this._pictures = [];
    /** @type {(pictures: Picture[]) => void} */
    this._take = () => {};
    this._wait = FIRST_WAIT;
    this._heard = 0;
    this._again = 0;
    this._rest = 0;
    setInterval(() => this._listen(), 2000);
    document.addEventListener("visibilitychange", () => this._seen());
  }

  /** Look at these from now on. @param {string[]} on @param {(pictures: Picture[]) => void} take */
  watch(on, take) {
    const same = take === this._take;
    this._take = take;
    if (String(on) === String(this._on) && this._source) {
      if (this._pictures.length === on.length) take(this._pictures);
      return;
    }
    this._on = on;
    if (!same) {
      // What the view before looked at is nothing to this one.
      this._source?.close();
      this._source = null;
    }
    this._open();
  }

  _open() {
    clearTimeout(this._again);
    this._next?.close();
    if (!this._on.length) return;
    const address = `v1/watch?${new URLSearchParams(this._on.map((each) => ["on", each]))}`;
    const source = new EventSource(address);
    /** @type {Picture[]} */
    const pictures = [];
    const wanted = this._on.length;
    const told = () => {
      this._heard = Date.now();
      if (this._next === source) {
        // Until now the old one went on: whoever scrolls sees no gap.
        this._source?.close();
        this._source = source;
        this._next = null;
      }
      this._wait = FIRST_WAIT;
      this._stands("live", "");
      this._pictures = pictures;
      if (Object.keys(pictures).length === wanted) this._take(pictures);
    };
    source.addEventListener("snapshot", (event) => {
      pictures[Number(event.lastEventId)] = JSON.parse(event.data);
      told();
    });
    source.addEventListener("patch", (event) => {
      const place = Number(event.lastEventId);
      if (pictures[place]) pictures[place] = patched(pictures[place], JSON.parse(event.data));
      told();
    });
    source.addEventListener("alive", () => (this._heard = Date.now()));
    source.addEventListener("error", () => this._failed(source, address));
    this._next = source;
    this._heard = Date.now();
  }

  /** @param {EventSource} source @param {string} address */
  _failed(source, address) {
    const refused = source.readyState === EventSource.CLOSED;
    source.close();
    if (source !== this._source && source !== this._next) return;
    this._source?.close();
    this._source = this._next = null;
    this._stands("lost", "");
    if (refused) this._ask(address);
    clearTimeout(this._again);
    this._again = window.setTimeout(() => this._open(), this._wait);
    this._wait = Math.min(this._wait * 1.6, LONGEST_WAIT);
  }

  /** An event source does not tell why it was refused. @param {string} address */
  async _ask(address) {
    try {
      await get(address);
    } catch (error) {
      if (!(error instanceof Problem) || !error.status) return;
      this._stands("refused", error.message);
      // What was asked wrongly, or may not be asked, is not asked again.
      if (error.status === 400 || error.status === 403) clearTimeout(this._again);
    }
  }

  _listen() {
    const source = this._source ?? this._next;
    if (source && Date.now() - this._heard > SILENT) this._failed(source, "");
  }

  _seen() {
    clearTimeout(this._rest);
    if (document.hidden) {
      this._rest = window.setTimeout(() => {
        this._source?.close();
        this._next?.close();
        clearTimeout(this._again);
        this._source = this._next = null;
        this._stands("resting", "");
      }, REST_AFTER);
    } else if (!this._source && !this._next) {
      this._open();
    }
  }
}
