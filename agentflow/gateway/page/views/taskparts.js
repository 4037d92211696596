// The parts of a task's page: what it was told, what came of it, and what happened to it.

import { clock, count, money, span, between, short } from "../core/amounts.js";
import { button, copying, h, put } from "../core/dom.js";
import { sub } from "./overview.js";

/** Characters that are shown at once; the whole is a click away. */
const SHOWN = 50_000;
const PIECE = 20_000;

/** A long text, its beginning first. @param {string} text @param {string} [kind] */
export function long(text, kind = "text") {
  const box = h("pre", { class: kind, dir: "auto", tabindex: 0 }, text.slice(0, SHOWN));
  if (text.length <= SHOWN) return box;
  const more = button(`Show all ${count(text.length)} characters`, () => {
    put(box, pieces(text).map((piece) => h("div", { class: "piece" }, piece)));
    more.remove();
  }, { class: "small" });
  return h("div", {}, box, more);
}

/**
 * A text in pieces: the browser lays out those that are seen, where one of millions would take it
 * seconds. They end with a line where there is one.
 *
 * @param {string} text
 */
function pieces(text) {
  const told = [];
  for (let at = 0; at < text.length; ) {
    const line = text.lastIndexOf("\n", at + PIECE);
    let end = line > at + PIECE / 2 ? line + 1 : at + PIECE;
    // No character of two halves is cut apart.
    if (/[\uD800-\uDBFF]/.test(text.charAt(end - 1))) end += 1;
    told.push(text.slice(at, end));
    at = end;
  }
  return told;
}

/** @param {unknown} value */
function json(value) {
  return long(JSON.stringify(value, null, 2), "text code");
}

/** @param {Element} into @param {any} body @param {string} problem */
export function prompt(into, body, problem) {
  if (!body) {
    put(into, sub("Prompt"), h("p", { class: "dim" }, problem));
    return;
  }
  const { prompt: text, system, ...rest } = body;
  for (const name of Object.keys(rest)) if (rest[name] === null || rest[name] === undefined) delete rest[name];
  put(into,
    sub("Prompt", text ? copying(() => text) : null),
    text ? long(text) : null,
    system ? h("details", {}, h("summary", {}, "System prompt"), typeof system === "string" ? long(system) : json(system)) : null,
    Object.keys(rest).length ? h("details", {}, h("summary", {}, "All that was asked"), json(rest)) : null);
}

/**
 * @param {Element} into
 * @param {any} result null while it has not ended
 * @param {import("../core/text.js").Stream} stream
 * @param {string} [state]
 * @param {any} [now]
 */
export function answer(into, result, stream, state = "", now = null) {
  if (!result) {
    if (into.contains(stream.element)) {
      stream.says(state, now);
      return;
    }
    stream.says(state, now);
    put(into, sub("Answer", copying(() => stream.text)), stream.element);
    return;
  }
  const { error } = result;
  put(into,
    sub("Answer", result.text ? copying(() => result.text) : null),
    error ? h("div", { class: "error" }, h("b", { dir: "auto" }, `${error.type}${error.status ? ` ${error.status}` : ""}`), h("p", { dir: "auto" }, error.message)) : null,
    result.partial ? h("p", { class: "token-warn" }, "The answer broke off; this is what came.") : null,
    result.text ? long(result.text) : null,
    result.value !== null && result.value !== undefined ? [h("h3", {}, "Value"), json(result.value)] : null,
    Array.isArray(result.content) ? result.content.map(block) : null,
    !error && !result.text && result.value === null && !result.content ? h("p", { class: "dim" }, state === "cancelled" ? "It was cancelled." : "There is no text.") : null,
    money_(result));
}

/** @param {any} result */
function money_(result) {
  const { usage, timings } = result;
  const told = [
    `${short(usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0))} tokens in`,
    `${short(usage.output_tokens)} out`,
    result.cost_usd === null ? `cost unknown${result.unpriced ? `: ${result.unpriced}` : ""}` : money(result.cost_usd),
    result.saved_usd ? `${money(result.saved_usd)} saved by its batch` : "",
    between(timings?.started, timings?.ended) === null ? "" : `ran ${span(between(timings.started, timings.ended))}`,
    result.stop_reason ? `ended by ${result.stop_reason}` : "",
    result.request_id ? `request ${result.request_id}` : "",
  ];
  return h("p", { class: "dim", dir: "auto" }, told.filter(Boolean).join(" · "));
}

/** What the API answered beside text: a tool call, thinking, and the like. @param {any} each */
function block(each) {
  const kind = String(each?.type ?? "block");
  if (kind === "text") return h("details", {}, h("summary", {}, "text"), long(String(each.text ?? "")));
  const name = each?.name ? ` ${each.name}` : "";
  const inner = kind === "thinking" ? long(String(each.thinking ?? "")) : json(each.input ?? each.content ?? each);
  return h("details", { open: kind.includes("tool") }, h("summary", { dir: "auto" }, h("span", { class: "chip" }, kind.replaceAll("_", " ")), name), inner);
}

/** @param {Element} into @param {{ sequence: number, record: any }[]} records */
export function history(into, records) {
  const names = ["Time", "State", "Try", "Worker", "What"];
  put(into, sub("History"),
    records.length
      ? h("div", { class: "grid" }, h("table", { class: "plain log", "aria-label": "History" },
          h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, records.map(({ record }) => h("tr", {},
            h("td", { class: "dim" }, clock(record.time)),
            h("td", { class: `token-state-${record.state}` }, record.state),
            h("td", {}, String(record.attempt ?? "")),
            h("td", {}, record.actor ?? ""),
            h("td", { dir: "auto", class: "rest" }, what(record)))))))
      : h("p", { class: "dim" }, "No worker has had it yet."));
}

/** @param {any} record */
function what(record) {
  const error = record.error ? `${record.error.type}: ${record.error.message}`.slice(0, 400) : "";
  const parts = [
    record.progress !== null && record.progress !== undefined ? `${Math.round(100 * record.progress)} %` : "",
    record.note, record.reason, error,
    record.resume_at ? `again at ${clock(record.resume_at)}` : "",
    record.cost_usd ? money(record.cost_usd) : "",
  ];
  return parts.filter(Boolean).join("  ");
}
