// A picture brought up to date. Pure: the old one stays what it is.

/** @typedef {import("./types.js").Picture} Picture */
/** @typedef {import("./types.js").Patch} Patch */
/** @typedef {import("./types.js").Grid} Grid */
/** @typedef {import("./types.js").GridPatch} GridPatch */
/** @typedef {import("./types.js").Row} Row */

/** @param {Picture} picture @param {Patch} patch @returns {Picture} */
export function patched(picture, patch) {
  return {
    view: picture.view,
    head: { ...picture.head, ...patch.head },
    document: { ...picture.document, ...patch.document },
    grid: patch.grid ? table(picture.grid, patch.grid) : picture.grid,
  };
}

/** @param {Grid | null} grid @param {GridPatch} patch @returns {Grid} */
function table(grid, patch) {
  const before = grid ?? { headings: [], rows: [], first: 0, total: 0, sort: "", reverse: false };
  const { rows, order, ...plain } = patch;
  const known = new Map(before.rows.map((row) => [row.key, row]));
  for (const row of rows ?? []) known.set(row.key, row);
  const keys = order ?? (grid ? before.rows.map((row) => row.key) : [...known.keys()]);
  const told = keys.map((key) => known.get(key)).filter((row) => row !== undefined);
  return { ...before, ...plain, rows: /** @type {Row[]} */ (told) };
}
