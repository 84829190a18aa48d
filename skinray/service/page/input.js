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

/** Keys of the canvas, and undo and redo everywhere except in text fields. */
export function onKeys(canvas, { viewer, pick, step, undo, redo, ready }) {
  const correct = () => (viewer.cursor ? pick(viewer.cursor, viewer.reach) : viewer.moveCursor(0, 0));
  const keys = {
    "+": () => viewer.zoomIn(), "=": () => viewer.zoomIn(), "-": () => viewer.zoomOut(),
    0: () => viewer.fit(), 1: () => viewer.actual(),
    n: () => step(1), p: () => step(-1),
    Enter: correct, " ": correct, Delete: correct,
    ArrowUp: () => viewer.moveCursor(-1, 0), ArrowDown: () => viewer.moveCursor(1, 0),
    ArrowLeft: () => viewer.moveCursor(0, -1), ArrowRight: () => viewer.moveCursor(0, 1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!ready() || event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = event.shiftKey && PANS[event.key];
    const act = pan ? () => viewer.pan(...pan) : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.target.matches?.("input[type=text], input[type=number]")) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) redo();
    else undo();
  });
}
