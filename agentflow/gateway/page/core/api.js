// Requests. What goes wrong is an Error with the gateway's sentence.

export class Problem extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @param {Response} response */
async function refused(response) {
  if (response.status === 401) location.assign(new URL("login", document.baseURI));
  let detail = `the gateway answered ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // A proxy in between may answer in words of its own.
  }
  return new Problem(response.status, detail);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 */
async function ask(method, path, body, signal) {
  /** @type {RequestInit} */
  const request = { method, signal, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    request.headers = { ...request.headers, "Content-Type": "application/json" };
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "the gateway does not answer");
  }
  if (!response.ok) throw await refused(response);
  return response;
}

/** The JSON at a path. @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function get(path, signal) {
  return (await ask("GET", path, undefined, signal)).json();
}

/** Send JSON; the JSON of the answer, null where it has none. @param {string} path @param {unknown} body @param {string} [method] @returns {Promise<any>} */
export async function send(path, body, method = "POST") {
  const response = await ask(method, path, body);
  return response.status === 204 ? null : response.json();
}

/** Send JSON, and take the lines of the answer as they come. @param {string} path @param {unknown} body @param {(line: any) => void} take */
export async function lines(path, body, take) {
  const response = await ask("POST", path, body);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) if (part) take(JSON.parse(part));
  }
}
