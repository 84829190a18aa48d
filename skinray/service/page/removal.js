// Taking images off the list: asks where work would be lost, and puts the last ones back.

const KEPT = 10; // removed images that can be put back; each holds its file and pictures

export class Removal {
  /**
   * `items` is the list. `on` has unsaved(item) -> what would be lost, in words; removed(item, index) and
   * back(item), called once the list has changed.
   */
  constructor(button, items, on) {
    this.button = button;
    this.items = items;
    this.on = on;
    this.gone = []; // [item, index], oldest first
    this.last = false; // whether a removal was the last thing that the user did
    button.addEventListener("click", () => this.#putBack());
  }

  async remove(item) {
    const lost = this.on.unsaved(item);
    if (lost.length && !(await ask(item.name, lost))) return;
    const index = this.items.indexOf(item);
    if (index < 0) return;
    this.items.splice(index, 1);
    this.gone = [...this.gone, [item, index]].slice(-KEPT);
    this.on.removed(item, index);
    this.last = true;
    this.#show();
  }

  /** The user did something else: undo now concerns that. */
  settle() { this.last = false; }

  /** Put the last image back if its removal was the last thing done; returns whether it was. */
  undo() { return this.last && this.gone.length > 0 && this.#putBack(); }

  #putBack() {
    const [item, index] = this.gone.pop();
    this.items.splice(Math.min(index, this.items.length), 0, item);
    this.on.back(item);
    this.last = this.gone.length > 0;
    this.#show();
    return true;
  }

  #show() {
    const name = this.gone.at(-1)?.[0].name ?? "";
    this.button.hidden = !name;
    this.button.textContent = `Put back ${name}`;
  }
}

/** Ask whether to remove an image; resolves to the answer. */
function ask(name, lost) {
  const make = (kind, values) => Object.assign(document.createElement(kind), values);
  const dialog = make("dialog", { id: "remove-dialog", className: "dialog" });
  const form = make("form", { method: "dialog" });
  const title = make("h2", { id: "remove-title", textContent: `Remove ${name}?` });
  const words = make("p", { id: "remove-words", textContent: `Not saved yet: ${lost.join(" and ")}.` });
  const row = make("div", { className: "row" });
  row.append(
    make("button", { id: "remove-no", value: "no", className: "primary", textContent: "Keep it", autofocus: true }),
    make("button", { id: "remove-yes", value: "yes", textContent: "Remove it" }),
  );
  dialog.setAttribute("aria-labelledby", "remove-title");
  dialog.setAttribute("aria-describedby", "remove-words");
  form.append(title, words, row);
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.showModal();
  });
}
