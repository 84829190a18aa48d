// The table of all images, the progress, and the model in use.

/** Format a number for the table. */
export const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** Redraw the table with the columns of this kind of image; `on` has choose(item) and remove(item). */
export function drawTable(body, items, current, kind, on) {
  const focused = document.activeElement?.dataset?.key;
  body.replaceChildren(...items.map((item) => line(item, item === current, kind, on)));
  if (focused) body.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
}

function line(item, now, kind, on) {
  const tr = document.createElement("tr");
  tr.classList.toggle("now", now);
  const name = make("th", "", item.name, () => on.choose(item), `choose-${item.id}`, "link");
  name.scope = "row";
  if (now) name.firstChild.setAttribute("aria-current", "true");
  tr.append(name);
  if (item.status === "failed" && !item.answer) {
    const why = make("td", "why bad", `Failed: ${item.error.message || item.error.title}`);
    why.colSpan = 6;
    tr.append(why);
  } else {
    const state = item.error ? "Failed again" : kind.state(item) ?? kind.words[item.status];
    tr.append(make("td", item.error ? "bad" : "", item.note || state));
    tr.append(...kind.cells(item).map((text) => make("td", "num", text)));
  }
  const remove = make("td", "num", "✕", () => on.remove(item), `remove-${item.id}`, "remove");
  remove.firstChild.setAttribute("aria-label", `Remove ${item.name} from the list`);
  tr.append(remove);
  return tr;
}

function make(tag, classes, text, click, key, look) {
  const element = document.createElement(tag);
  element.className = classes;
  if (!click) {
    element.textContent = text;
    return element;
  }
  const button = document.createElement("button");
  button.type = "button";
  button.className = look;
  button.dataset.key = key;
  button.textContent = text;
  button.addEventListener("click", click);
  element.append(button);
  return element;
}

/** Show how many images are finished; the text is only set if it changed, as screen readers announce it. */
export function drawProgress(words, bar, items, done) {
  const ended = items.filter((item) => item.status === "done" || item.status === "failed").length;
  const failed = items.filter((item) => item.status === "failed").length;
  const text = items.length ? `${ended} of ${items.length} ${done}${failed ? `, ${failed} failed` : ""}` : "No images yet";
  if (words.textContent !== text) words.textContent = text;
  bar.hidden = ended === items.length;
  bar.max = Math.max(1, items.length);
  bar.value = ended;
}

/** Show the bundle in service by the beginning of its hash, and what is wrong with it, if anything. */
export function drawBundle(place, notice, id, note) {
  notice.textContent = note ? `Do not rely on these results: ${note}.` : "";
  notice.hidden = !note;
  const code = document.createElement("code");
  code.textContent = id.slice(0, 8);
  code.title = id;
  place.replaceChildren("model ", code);
  place.hidden = false;
}
