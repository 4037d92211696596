// Where one is: every view has an address, so links, bookmarks and the back button work.

const BASE = new URL(document.baseURI).pathname;

/** @typedef {{ path: string[], query: URLSearchParams }} Place */

/** The place that the address names. @returns {Place} */
export function here() {
  const rest = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : "";
  const path = rest.split("/").filter(Boolean).map(plain);
  return { path, query: new URLSearchParams(location.search) };
}

/** @param {string} part */
function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * The address of a place.
 *
 * @param {string[]} path
 * @param {Record<string, string> | URLSearchParams} [query] empty values are left out
 */
export function to(path, query = {}) {
  const pairs = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const given = new URLSearchParams(pairs.filter(([, value]) => value));
  // Colons and slashes may stand in a query, and are easier to read.
  const text = given.toString().replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%3D", "=");
  return BASE + path.map(encodeURIComponent).join("/") + (text ? `?${text}` : "");
}

/** @param {string} address @param {boolean} [instead] of the present one: no step for the back button */
export function go(address, instead = false) {
  if (instead) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new Event("moved"));
}

/** Say in the address what is chosen here: no step, and no other view. @param {Record<string, string>} chosen */
export function mark(chosen) {
  const { path, query } = here();
  for (const [name, value] of Object.entries(chosen)) query.set(name, value);
  history.replaceState(null, "", to(path, query));
}

/** Follow links within the page without loading it anew. @param {() => void} moved */
export function follow(moved) {
  addEventListener("popstate", moved);
  addEventListener("moved", moved);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.dataset.plain) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || !url.pathname.startsWith(BASE)) return;
    event.preventDefault();
    if (url.href !== location.href) go(url.pathname + url.search);
  });
}
