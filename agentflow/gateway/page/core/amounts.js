// Numbers as people read them, in the words that the terminal has for them.

/** A duration in at most five characters: 0.4s, 12s, 9m12, 3h04, 2d4h. @param {number | null} seconds */
export function span(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "-";
  const length = Math.max(0, seconds);
  if (length < 9.95) return `${length.toFixed(1)}s`;
  if (length < 60) return `${length.toFixed(0)}s`;
  const whole = Math.floor(length);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}`;
  const days = Math.floor(whole / 86_400);
  return whole < 864_000 ? `${days}d${Math.floor((whole % 86_400) / 3600)}h` : `${days}d`;
}

/** Dollars: four figures that count, `-` where the price is unknown. @param {number | null | undefined} usd */
export function money(usd) {
  if (usd === null || usd === undefined) return "-";
  if (usd === 0) return "$0";
  const size = Math.abs(usd);
  if (size < 0.01) return `$${usd.toFixed(4)}`;
  if (size < 10) return `$${usd.toFixed(3)}`;
  return size < 1000 ? `$${usd.toFixed(2)}` : `$${count(usd)}`;
}

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** A whole number with separators. @param {number} number */
export function count(number) {
  return WHOLE.format(number);
}

/** A number in at most five characters: 999, 12.3k, 4.5M. @param {number} number */
export function short(number) {
  for (const [limit, unit] of /** @type {[number, string][]} */ ([[1e9, "G"], [1e6, "M"], [1e3, "k"]])) {
    if (Math.abs(number) >= limit) {
      const value = number / limit;
      return `${value < 99.95 ? value.toFixed(1) : value.toFixed(0)}${unit}`;
    }
  }
  return number.toFixed(0);
}

/** A rate: two digits that count below ten. @param {number} number */
export function rate(number) {
  return number > 0 && number < 99.95 ? number.toFixed(1) : count(number);
}

/** An instant as the reader's time of day. @param {string | null | undefined} iso */
export function clock(iso) {
  if (!iso) return "-";
  return new Date(iso).toLocaleTimeString("en-GB");
}

/** An instant as date and time of day. @param {string | null | undefined} iso */
export function stamp(iso) {
  if (!iso) return "-";
  const at = new Date(iso);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${at.toLocaleTimeString("en-GB")}`;
}

/** Seconds between two instants, null where one is unknown. @param {string | null | undefined} from @param {string | null | undefined} to */
export function between(from, to) {
  return from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : null;
}

/** Words as a shell takes them. @param {string[]} words */
export function shell(words) {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`)).join(" ");
}
