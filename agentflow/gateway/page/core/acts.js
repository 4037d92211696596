// Acts: first what it would do and the command line that does the same, then a receipt.

import { lines, send } from "./api.js";
import { button, copying, h, put } from "./dom.js";

/** @typedef {import("./types.js").Preview} Preview */
/** @typedef {import("./types.js").Receipt} Receipt */

/**
 * An act that is not in the table of acts: what it does is said here, and done by `run`, whose
 * answer is the receipt.
 *
 * @typedef {object} Own
 * @property {string} title
 * @property {string[]} lines
 * @property {string} command
 * @property {boolean} [danger]
 * @property {() => Promise<string>} run
 */

/** Above so many targets the number must be typed. */
const TYPED_ABOVE = 50;
const RECEIPTS = 20;
const GONE_AFTER = 12_000;

export class Acts {
  /** @param {Element} receipts */
  constructor(receipts) {
    this._receipts = receipts;
  }

  /** @param {string} act @param {string[]} targets @param {() => void} [done] */
  async begin(act, targets, done) {
    /** @type {Preview} */
    let preview;
    try {
      preview = await send("v1/acts/preview", { act, targets });
    } catch (error) {
      this.tell(String(error instanceof Error ? error.message : error), "crit");
      return;
    }
    if (!preview.possible.length) {
      this.tell(`nothing to do: ${preview.said}`, "warn");
      return;
    }
    const told = preview.lines.map((line) => h("p", {}, line.map((run) => h("span", { class: `token-${run.token}` }, run.text))));
    if (preview.said) told.push(h("p", { class: "token-warn" }, preview.said));
    const typed = preview.count > TYPED_ABOVE ? String(preview.count) : "";
    confirm(preview.title, told, preview.command, preview.nats, preview.danger, typed, () => {
      this._perform(act, preview.possible, preview.command);
      done?.();
    });
  }

  /** @param {Own} own */
  own(own) {
    const told = own.lines.map((line) => h("p", {}, line));
    confirm(own.title, told, own.command, "", own.danger ?? true, "", async () => {
      const receipt = this._receipt(own.command);
      try {
        receipt({ command: own.command, text: await own.run(), token: "ok", ended: true });
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        receipt({ command: own.command, text: `not done: ${text}`, token: "crit", ended: true });
      }
    });
  }

  /** @param {string} act @param {string[]} targets @param {string} command */
  async _perform(act, targets, command) {
    const receipt = this._receipt(command);
    let ended = false;
    try {
      await lines("v1/acts", { act, targets }, (/** @type {Receipt} */ told) => {
        ended = told.ended;
        receipt(told);
      });
      if (!ended) receipt({ command, text: "the gateway broke off: what was begun may be done", token: "warn", ended: true });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      receipt({ command, text: `not answered: ${text}`, token: "crit", ended: true });
    }
  }

  /** A sentence for a while. @param {string} text @param {string} [token] */
  tell(text, token = "text") {
    this._receipt("")({ command: "", text, token, ended: true });
  }

  /** A receipt that is written anew as its act goes on. @param {string} command */
  _receipt(command) {
    const text = h("p", { class: "said" });
    const made = h(
      "section",
      { class: "receipt" },
      text,
      command ? h("code", { class: "line", title: command.slice(0, 2000) }, command.slice(0, 2000)) : null,
      button("×", () => made.remove(), { class: "close", "aria-label": "Close the receipt" }),
    );
    this._receipts.append(made);
    while (this._receipts.children.length > RECEIPTS) this._receipts.firstElementChild?.remove();
    return (/** @type {Receipt} */ told) => {
      text.textContent = told.text;
      text.className = `said token-${told.token}`;
      made.dataset.ended = String(told.ended);
      if (told.ended && (told.token === "ok" || told.token === "text")) setTimeout(() => made.remove(), GONE_AFTER);
    };
  }
}

/**
 * @param {string} title
 * @param {Node[]} told
 * @param {string} command
 * @param {string} nats
 * @param {boolean} danger
 * @param {string} typed what must be typed to go on
 * @param {() => void} go
 */
function confirm(title, told, command, nats, danger, typed, go) {
  const yes = h("button", { type: "submit", class: danger ? "danger" : "primary" }, verb(title));
  const number = typed
    ? h("input", { inputmode: "numeric", autocomplete: "off", "aria-label": `Type ${typed} to go on`, placeholder: typed })
    : null;
  yes.disabled = Boolean(typed);
  number?.addEventListener("input", () => (yes.disabled = number.value.trim() !== typed));
  const shells = [command, nats].filter(Boolean).map((text) =>
    h("div", { class: "command" }, h("code", {}, text.slice(0, 20_000)), copying(() => text)),
  );
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", {}, title),
    h("div", { class: "told" }, told),
    shells.length ? h("p", { class: "label" }, "The same from a shell") : null,
    shells,
    number ? h("label", { class: "typed" }, `These are ${typed}. Type the number to go on: `, number) : null,
    h("div", { class: "choice" }, button("Not now", () => dialog.close()), yes),
  );
  const dialog = h("dialog", { class: "confirm", "aria-label": title }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    go();
  });
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  (number ?? yes).focus();
}

/** @param {string} title */
function verb(title) {
  const word = title.split(" ", 1)[0];
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** What a view has at its top: a heading, what stands beside it, and what can be done. @param {string} title @param {...(Node | string | null | false)} beside */
export function heading(title, ...beside) {
  const made = h("header", { class: "heading" }, h("h1", { dir: "auto" }, title), h("div", { class: "beside" }));
  put(/** @type {Element} */ (made.lastElementChild), ...beside);
  return made;
}
