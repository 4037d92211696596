// Elements. Text becomes text and nothing else: there is no way here to make markup of a string.

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Traits */

/**
 * An element. `on` are listeners, `set` properties; other traits are attributes, left out where
 * they are null, undefined or false.
 *
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Traits} [traits]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[N]}
 */
export function h(name, traits = {}, ...children) {
  const made = document.createElement(name);
  dress(made, traits);
  fill(made, children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element of a drawing.
 *
 * @param {string} name
 * @param {Traits} [traits]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function s(name, traits = {}, ...children) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, name));
  dress(made, traits);
  fill(made, children);
  return made;
}

/** @param {Element} made @param {Traits} traits */
function dress(made, traits) {
  for (const [name, value] of Object.entries(traits)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "set") {
      Object.assign(made, value);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
}

/** @param {Element} made @param {(Child | Child[])[]} children */
function fill(made, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    made.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Put these in the place of all that an element has.
 *
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function put(parent, ...children) {
  parent.replaceChildren();
  fill(parent, children);
}

/**
 * Say something else, only where it is something else: a selection in the text stays.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A button with words.
 *
 * @param {string} text
 * @param {() => void} click
 * @param {Traits} [traits]
 */
export function button(text, click, traits = {}) {
  return h("button", { type: "button", ...traits, on: { click } }, text);
}

/** A button that copies. @param {() => string} text @param {string} [title] */
export function copying(text, title = "Copy") {
  const made = button(
    title,
    () => {
      navigator.clipboard?.writeText(text()).then(
        () => {
          made.textContent = "Copied";
          setTimeout(() => (made.textContent = title), 1200);
        },
        () => (made.textContent = "Not allowed here"),
      );
    },
    { class: "quiet" },
  );
  return made;
}
