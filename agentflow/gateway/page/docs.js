// Shows /openapi.json: a line a route, and what goes in and out when it is opened.

/** @param {string} name @param {string} [text] @param {string} [kind] */
function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/** @param {any} schema @returns {Node} */
function shown(schema) {
  const pre = element("pre");
  const text = JSON.stringify(schema, null, 2);
  for (const part of text.split(/("#\/components\/schemas\/[^"]+")/)) {
    const name = part.match(/^"#\/components\/schemas\/([^"]+)"$/)?.[1];
    if (name) {
      const link = document.createElement("a");
      link.href = `docs#schema-${name}`;
      link.textContent = `"${name}"`;
      pre.append(link);
    } else {
      pre.append(part);
    }
  }
  return pre;
}

/** @param {string} path @param {string} method @param {any} told */
function route(path, method, told) {
  const details = element("details");
  const summary = element("summary");
  summary.append(element("span", method.toUpperCase(), "method"), element("code", path));
  summary.append(` ${told.summary}`);
  details.append(summary);
  if (told.description) details.append(element("p", told.description));
  for (const parameter of told.parameters ?? []) {
    details.append(element("h4", `${parameter.name} (${parameter.in})`), shown(parameter.schema));
  }
  if (told.requestBody) details.append(element("h4", "Body"), shown(told.requestBody.content));
  for (const [status, answer] of Object.entries(told.responses)) {
    details.append(element("h4", `${status}: ${answer.description}`));
    if (answer.content && status < "300") details.append(shown(answer.content));
  }
  return details;
}

const told = await (await fetch("openapi.json")).json();
const paths = document.getElementById("paths");
for (const [path, methods] of Object.entries(told.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    paths?.append(route(path, method, operation));
  }
}
const schemas = document.getElementById("schemas");
for (const [name, schema] of Object.entries(told.components.schemas)) {
  const details = element("details");
  details.id = `schema-${name}`;
  details.append(element("summary", name), shown(schema));
  schemas?.append(details);
}
addEventListener("hashchange", () => {
  const part = document.getElementById(location.hash.slice(1));
  if (part instanceof HTMLDetailsElement) part.open = true;
});
