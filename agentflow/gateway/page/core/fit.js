// Which columns find room, by the rule that the terminal has (dashboard/reader/column.py).

/** @typedef {import("./types.js").Heading} Heading */

/**
 * The places of the columns that find room in `width` characters, and the width of each.
 *
 * @param {Heading[]} headings
 * @param {number} width
 * @param {number} [gap] characters between two
 * @returns {{ place: number, width: number }[]}
 */
export function fit(headings, width, gap = 1) {
  const shown = headings.map((heading, place) => ({ place, heading, width: heading.width }));
  let need = shown.reduce((sum, each) => sum + each.width + gap, 0) - gap;
  while (shown.length > 1 && need > width) {
    const worst = Math.max(...shown.map((each) => each.heading.drop));
    if (worst === 0) break;
    // Of several with the same rank the rightmost goes.
    const at = shown.findLastIndex((each) => each.heading.drop === worst);
    need -= shown[at].width + gap;
    shown.splice(at, 1);
  }
  while (need > width && Math.max(...shown.map((each) => each.width)) > 1) {
    const widest = Math.max(...shown.map((each) => each.width));
    shown[shown.findIndex((each) => each.width === widest)].width -= 1;
    need -= 1;
  }
  let spare = Math.floor(width - need);
  let growing = shown.filter((each) => each.heading.grows && each.heading.most > each.width);
  while (spare > 0 && growing.length) {
    const share = Math.max(1, Math.floor(spare / growing.length));
    for (const each of growing) {
      const more = Math.min(share, spare, each.heading.most - each.width);
      each.width += more;
      spare -= more;
      if (spare <= 0) break;
    }
    growing = growing.filter((each) => each.width < each.heading.most);
  }
  return shown.map((each) => ({ place: each.place, width: each.width }));
}
