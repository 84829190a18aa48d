// The token that the service asks for: kept for this tab, asked of the person where it is missing
// or no longer right. Behind a proxy that shows one by itself, nobody is asked.

const KEY = "skinray-token";
let asking = null;

// `skinray serve` names the page with its token behind #, which a browser sends to nobody.
const handed = new URLSearchParams(location.hash.slice(1)).get("token");
if (handed) {
  sessionStorage.setItem(KEY, handed);
  history.replaceState(null, "", location.pathname + location.search);
}

/** As fetch, with the token; the answer is a refusal (401) only where the person gave none. */
export async function authorised(address, options) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
    const response = await fetch(address, { ...options, headers });
    const wanted = response.headers.get("WWW-Authenticate") ?? "";
    if (response.status !== 401 || !wanted.startsWith("Bearer")) return response;
    if (sessionStorage.getItem(KEY) !== token) continue; // another request has asked meanwhile
    asking ??= ask(token !== null).finally(() => { asking = null; });
    if (!(await asking)) return response;
  }
}

/** Ask the person; whether a token was given. */
function ask(wrong) {
  const dialog = element("dialog", { id: "token-dialog", className: "token" });
  const form = element("form", { id: "token-form" });
  const title = element("h2", { id: "token-title", textContent: "Token" });
  const words = wrong
    ? "This token is not, or no longer, one of the service."
    : "The service asks for a token. Whoever runs it gives you one.";
  const note = element("p", { id: "token-note", className: wrong ? "bad" : "quiet", textContent: words });
  const label = element("label", { htmlFor: "token-value", textContent: "Token of the service" });
  const input = element("input", {
    id: "token-value", type: "password", autocomplete: "off", spellcheck: false, required: true, autofocus: true,
  });
  const button = element("button", { type: "submit", className: "primary", textContent: "Go on" });
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
