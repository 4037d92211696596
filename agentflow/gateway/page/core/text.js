// Text as it is generated: appended a frame at a time, and never more than so much of it.

import { h, say } from "./dom.js";

const MOST = 1_000_000;
const KEPT = 600_000;

export class Stream {
  constructor() {
    this._box = h("pre", { class: "text streaming", dir: "auto", tabindex: 0 });
    this._said = h("p", { class: "dim" });
    this.element = h("div", {}, this._said, this._box);
    this._box.hidden = true;
    this._attempt = 0;
    this._length = 0;
    this._text = "";
    this._waiting = "";
    this._frame = 0;
    this._encoder = new TextEncoder();
  }

  /** What came, its last part where it is very long. */
  get text() {
    return this._text + this._waiting;
  }

  /** @param {number} attempt @param {number} offset bytes of the attempt before it @param {string} text */
  add(attempt, offset, text) {
    if (attempt !== this._attempt || offset === 0) this._begin(attempt);
    if (offset < this._length) return; // it was told before
    this._length = offset + this._encoder.encode(text).length;
    this._waiting += text;
    if (!this._frame) this._frame = requestAnimationFrame(() => this._draw());
  }

  /** What stands where no text has come. @param {string} state @param {any} now */
  says(state, now) {
    const words = {
      running: this.text ? "" : (now?.note ?? "It runs; no text has come yet."),
      queued: "It waits in its queue.",
    };
    say(this._said, /** @type {Record<string, string>} */ (words)[state] ?? `It is ${state}.`);
  }

  close() {
    cancelAnimationFrame(this._frame);
  }

  /** @param {number} attempt */
  _begin(attempt) {
    this._attempt = attempt;
    this._length = 0;
    this._text = this._waiting = "";
    this._box.replaceChildren();
  }

  _draw() {
    this._frame = 0;
    const box = this._box;
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    this._text += this._waiting;
    if (this._text.length > MOST) {
      this._text = this._text.slice(-KEPT);
      box.replaceChildren(document.createTextNode(this._text));
    } else {
      box.append(this._waiting);
    }
    this._waiting = "";
    box.hidden = false;
    say(this._said, "");
    if (end) box.scrollTop = box.scrollHeight;
  }
}
