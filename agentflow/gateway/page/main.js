// The page: its frame, and the view that the address names.

import { Acts } from "./core/acts.js";
import { follow, go, here, to } from "./core/address.js";
import { get } from "./core/api.js";
import { count } from "./core/amounts.js";
import { button, h, put, say } from "./core/dom.js";
import { Live } from "./core/live.js";
import { VIEWS, viewAt } from "./views/all.js";

/** @typedef {import("./core/types.js").Head} Head */
/** @typedef {import("./core/types.js").View} View */
/** @typedef {import("./core/types.js").App} App */
/** @typedef {import("./core/types.js").Session} Session */

const ROLES = ["viewer", "submitter", "operator", "admin"];

const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (document.querySelector(selector));
const main = part("main");
const acts = new Acts(part(".receipts"));

/** @type {Session} */
let session = { role: "viewer", queues: [], name: "", open: false };
/** @type {View | null} */
let view = null;
/** @type {Head | null} */
let head = null;
/** @type {Map<string, HTMLElement>} */
const links = new Map();

// The frame.

const standing = h("span", { class: "standing", "data-standing": "connecting", role: "status" }, "connecting");
const figures = h("div", { class: "totals" });
const theme = button("", turn, { class: "quiet theme", "aria-label": "Dark or light" });
const banner = h("p", { class: "banner", hidden: true, role: "alert" });
const submit = h("a", { class: "button primary", href: to(["submit"]) }, "New task");

function frame() {
  put(
    part(".top"),
    h("a", { class: "brand", href: to([]) }, h("img", { src: "page/icon.svg", alt: "", width: 22, height: 22 }), "AgentFlow"),
    standing,
    figures,
    h("span", { class: "space" }),
    submit,
    theme,
  );
  part(".top").after(banner);
  put(
    part(".views"),
    VIEWS.map(({ name, title }) => {
      const link = h("a", { href: to(name === "overview" ? [] : [name]) }, title, h("span", { class: "badge", hidden: true }));
      links.set(name, link);
      return link;
    }),
    h("a", { class: "aside", href: "docs", "data-plain": true }, "API"),
  );
  part(".skip").addEventListener("click", () => main.focus());
  themed();
}

function turn() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", dark ? "light" : "dark");
  } catch {
    // It holds until the page is left.
  }
  themed();
}

function themed() {
  const dark = document.documentElement.dataset.theme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  theme.textContent = dark ? "☀" : "☾";
  theme.title = dark ? "Light" : "Dark";
}

/** @param {import("./core/live.js").Standing} now @param {string} detail */
function stands(now, detail) {
  const words = { connecting: "connecting", live: "live", lost: "reconnecting", refused: "refused", resting: "resting" };
  const server = now === "live" && head && !head.connected;
  standing.dataset.standing = server ? "lost" : now;
  say(standing, server ? "no NATS" : words[now]);
  document.documentElement.dataset.stale = String(now === "lost" || Boolean(server));
  banner.hidden = !(now === "lost" || now === "refused" || server);
  if (now === "refused") say(banner, detail);
  else if (server) say(banner, "The gateway has lost its connection to NATS. What you see is as it was; it goes on by itself.");
  else say(banner, "No connection to the gateway. What you see is as it was; it is tried again until it answers.");
}

const live = new Live(stands);

/** @param {Head} now */
function totals(now) {
  head = now;
  const states = now.states;
  const parked = (states.scheduled ?? 0) + (states.retrying ?? 0) + (states.waiting ?? 0);
  const told = [
    ["running", states.running, "state:running"],
    ["queued", states.queued, "state:queued"],
    ["parked", parked, "state:scheduled,retrying,waiting"],
  ];
  if (!figures.childElementCount) {
    put(figures, told.map(([name, , q]) => h("a", { href: to(["tasks"], { q: String(q) }) }, h("b"), ` ${name}`)),
      h("span", { class: "mode", hidden: true }, "simulated"), h("span", { class: "reading", hidden: true }, "reading the streams"));
  }
  told.forEach(([, value], at) => say(/** @type {Element} */ (figures.children[at].firstElementChild), count(Number(value))));
  /** @type {HTMLElement} */ (figures.children[3]).hidden = !now.simulated;
  /** @type {HTMLElement} */ (figures.children[4]).hidden = now.complete;
  badge("dead", now.dead_letters);
}

/** @param {string} name @param {number} number */
function badge(name, number) {
  const made = /** @type {HTMLElement | null} */ (links.get(name)?.lastElementChild ?? null);
  if (!made) return;
  made.hidden = !number;
  say(made, number > 999 ? "999+" : String(number));
}

// Views.

/** @type {App} */
const app = {
  watch(shown, on) {
    if (shown !== view) return;
    shown.on = on;
    look();
  },
  act(name, targets) {
    acts.begin(name, targets);
  },
  own(act) {
    acts.own(act);
  },
  may(role) {
    return ROLES.indexOf(session.role) >= ROLES.indexOf(role);
  },
  tell(text, token) {
    acts.tell(text, token);
  },
  head: () => head,
};

/** @type {((pictures: import("./core/types.js").Picture[]) => void) | null} */
let take = null;

function look() {
  const shown = view;
  if (!shown || !take) return;
  // Without anything of its own a view still needs to know how all stands.
  live.watch(shown.on?.length ? shown.on : ["overview?number=0&fields=none"], take);
}

function show() {
  const place = here();
  const moved = view;
  view = viewAt(place, app);
  const shown = view;
  moved?.close?.();
  document.title = shown.title === "AgentFlow" ? shown.title : `${shown.title} · AgentFlow`;
  main.className = `view-${place.path[0] ?? "overview"}`;
  put(main, ...shown.main);
  const chosen = place.path[0] ?? "overview";
  for (const [name, link] of links) {
    if (name === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  links.get(chosen)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  scrollTo(0, 0);
  take = (pictures) => {
    totals(pictures[0].head);
    stands("live", "");
    if (shown.on?.length) shown.show?.(pictures);
  };
  look();
}

async function start() {
  frame();
  try {
    session = await get("v1/session");
  } catch (error) {
    acts.tell(error instanceof Error ? error.message : String(error), "crit");
  }
  submit.hidden = !app.may("submitter");
  follow(show);
  show();
}

// Keys: / goes to the filter, g and a letter to a view.
let before = "";
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    const field = /** @type {HTMLInputElement | null} */ (document.querySelector("input.query"));
    if (field) field.focus();
    else go(to(["tasks"]));
    event.preventDefault();
  } else if (before === "g") {
    const found = VIEWS.find(({ key }) => key === event.key);
    if (found) go(to(found.name === "overview" ? [] : [found.name]));
  }
  before = event.key;
});

start();
