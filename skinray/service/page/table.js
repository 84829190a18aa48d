// The table of all images, the progress, and the model in use.

/** Format a number for the table. */
export const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** A measured value with the three digits it is worth, as a number and as text. */
export const worth = (value) => (Number.isFinite(value) ? Number(value.toPrecision(3)) : null);
export function plain(value) {
  if (!Number.isFinite(value)) return "–";
  const digits = value ? Math.max(0, 2 - Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3)))))) : 0;
  return value.toFixed(Math.min(digits, 6));
}

/** Redraw the table with the columns of this kind of image, the first `texts` of them words; `on` has choose(item) and remove(item). */
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
    why.colSpan = kind.cells(item).length + 1;
    tr.append(why);
  } else {
    const state = item.error ? "Failed again" : kind.state(item) ?? kind.words[item.status];
    tr.append(make("td", item.error ? "bad" : "", item.note || state));
    tr.append(...kind.cells(item).map((text, index) => make("td", index < kind.texts ? "" : "num", text)));
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

/** Show how far the work has come; the text is only set if it changed, as screen readers announce it. */
export function drawProgress(words, bar, items, kind) {
  const all = (status) => items.filter((item) => item.status === status).length;
  const open = items.length - all("done") - all("failed");
  const parts = [
    `${all("done")} ${kind.done}`, all("failed") && `${all("failed")} failed`, open && `${open} to do`,
    kind.reviewed && `${items.filter(kind.reviewed).length} reviewed`,
  ].filter(Boolean);
  const text = items.length ? `${items.length} image${items.length === 1 ? "" : "s"}: ${parts.join(", ")}` : "No images yet";
  if (words.textContent !== text) words.textContent = text;
  bar.hidden = !open;
  bar.max = Math.max(1, items.length);
  bar.value = items.length - open;
}

// What the note of a synthetic bundle says too: skinray/learning/bundle/info.py.
const ON_DRAWN_IMAGES = "trained on images that skinray drew";

/** Show the bundle in service by the beginning of its hash, and what is wrong with it, if anything. */
export function drawBundle(place, notice, { id, synthetic, note }) {
  const others = (note ?? "").split("; ").filter((one) => !(synthetic && one === ON_DRAWN_IMAGES));
  const flaws = [synthetic && "the model was trained on drawn images, not on real biopsies", ...others].filter(Boolean);
  const text = flaws.length ? `Do not rely on these results: ${flaws.join("; ")}.` : "";
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
  const code = document.createElement("code");
  code.textContent = id.slice(0, 8);
  code.title = id;
  place.replaceChildren("model ", code);
  place.hidden = false;
}
