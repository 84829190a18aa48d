// The token that the service needs: kept for this tab, and requested from the user if it is missing
// or invalid. Behind a proxy that adds one automatically, the user is never asked.

const KEY = "skinray-token";
let asking = null;

// `skinray serve` prints the page's address with the token after #, which browsers never send.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search);
}

/** Like fetch, with the token; the response is 401 only if the user entered none. */
export async function authorised(address, options) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
    const response = await fetch(address, { ...options, headers });
    const wanted = response.headers.get("WWW-Authenticate") ?? "";
    if (response.status !== 401 || !wanted.startsWith("Bearer")) return response;
    if (sessionStorage.getItem(KEY) !== token) continue; // another request has asked in the meantime
    asking ??= ask(token !== null).finally(() => { asking = null; });
    if (!(await asking)) return response;
  }
}

/** Ask the user; resolves to whether a token was entered. */
function ask(invalid) {
  const dialog = element("dialog", { id: "token-dialog", className: "dialog" });
  const form = element("form", { id: "token-form" });
  const title = element("h2", { id: "token-title", textContent: "Token" });
  const words = invalid
    ? "Invalid token. It may have been replaced: open the whole address that `skinray serve` prints now, or ask your administrator."
    : "This service needs a token. Open the whole address that `skinray serve` printed, or ask your administrator.";
  const note = element("p", { id: "token-note", className: invalid ? "bad" : "quiet", textContent: words });
  const label = element("label", { htmlFor: "token-value", textContent: "Token for this service" });
  const input = element("input", {
    id: "token-value", type: "password", autocomplete: "off", spellcheck: false, required: true, autofocus: true,
  });
  const button = element("button", { type: "submit", className: "primary", textContent: "Continue" });
  dialog.setAttribute("aria-labelledby", "token-title");
  input.setAttribute("aria-describedby", "token-note");
  form.append(title, note, label, input, button);
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
      dialog.close("given");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "given");
    });
    dialog.showModal();
  });
}

const element = (kind, values) => Object.assign(document.createElement(kind), values);
