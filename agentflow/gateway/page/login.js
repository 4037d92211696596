// Logs in with what was typed, or with what stands behind the # of a link.

const form = document.querySelector("form");
const field = document.querySelector("input");
const said = document.querySelector("[role=alert]");

/** @param {string} token */
async function logIn(token) {
  const answer = await fetch("v1/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) {
    location.replace(document.baseURI);
  } else if (said) {
    said.textContent = (await answer.json()).detail;
  }
}

const link = location.hash.slice(1);
if (link) {
  // Gone from the address before anything else: it is nobody's to copy.
  history.replaceState(null, "", location.pathname);
  logIn(link);
}
form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (field) logIn(field.value.trim());
});
