// Files dropped anywhere on the page, and keyboard control of the image.

/** Call `take(files)` for dropped files, and `hover(true or false)` while they are dragged over the page. */
export function onDrop(take, hover) {
  let depth = 0;
  const dragging = (by) => {
    depth = by === 0 ? 0 : Math.max(0, depth + by);
    hover(depth > 0);
  };
  const bringsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const on = (name, act) => document.addEventListener(name, (event) => { if (bringsFiles(event)) act(event); });
  on("dragenter", () => dragging(1));
  on("dragleave", () => dragging(-1));
  on("dragover", (event) => event.preventDefault());
  on("drop", (event) => {
    event.preventDefault();
    dragging(0);
    take(event.dataTransfer.files);
  });
}

const PANS = { ArrowUp: [0, -60], ArrowDown: [0, 60], ArrowLeft: [-60, 0], ArrowRight: [60, 0] };

const TYPING = "input[type=text], input[type=password], textarea";
const OWN_PAGES = "input[type=range], .scroll, dialog *"; // these have a use for Page Up and Page Down

/** Keys of the canvas; the next and the previous image, undo and redo everywhere except where they mean something else. */
export function onKeys(canvas, { viewer, pick, step, turn, mark, help, undo, redo, ready }) {
  const correct = () => (viewer.cursor ? pick(viewer.cursor, viewer.reach) : viewer.moveCursor(0, 0));
  const keys = {
    "+": () => viewer.zoomIn(), "=": () => viewer.zoomIn(), "-": () => viewer.zoomOut(),
    0: () => viewer.fit(), 1: () => viewer.actual(),
    n: () => step(1), p: () => step(-1), r: mark,
    Enter: correct, " ": correct, Delete: correct,
    ArrowUp: () => viewer.moveCursor(-1, 0), ArrowDown: () => viewer.moveCursor(1, 0),
    ArrowLeft: () => viewer.moveCursor(0, -1), ArrowRight: () => viewer.moveCursor(0, 1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "?") help();
    if (!ready() || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = event.shiftKey && PANS[event.key];
    const act = pan ? () => viewer.pan(...pan) : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keydown", (event) => {
    const by = { PageDown: 1, PageUp: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.(OWN_PAGES)) return;
    event.preventDefault();
    turn(by);
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.matches?.(TYPING)) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  });
}

/** Call `hide(true)` while H is held on the canvas or the button is pressed, and `hide(false)` afterwards. */
export function onHold(canvas, button, hide) {
  const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;
  const hold = (element, keys) => {
    let held = false; // a press of the button takes the focus from the canvas, which must not end it
    const set = (now) => { if (now !== held) { held = now; hide(now); } };
    const isKey = (event) => keys.includes(event.key.toLowerCase());
    element.addEventListener("keydown", (event) => { if (isKey(event) && plain(event)) set(true); });
    element.addEventListener("keyup", (event) => { if (isKey(event)) set(false); });
    element.addEventListener("blur", () => set(false));
    return set;
  };
  hold(canvas, ["h"]);
  const press = hold(button, [" ", "enter"]);
  button.addEventListener("pointerdown", () => press(true));
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(name, () => press(false));
}
