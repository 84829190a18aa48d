// Mouse, pen and fingers on the canvas of a viewer: wheel, drag, pinch and click.

const CLICK_PX = 5; // a press that moves further is a drag

const at = (event) => [event.offsetX, event.offsetY];

/** Let a viewer follow the pointers on its canvas. */
export function listen(viewer) {
  const { canvas } = viewer;
  const pointers = new Map();
  let press = null;

  canvas.addEventListener("wheel", (event) => {
    if (!viewer.scene) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    viewer.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 400), at(event));
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !viewer.scene) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    press = pointers.size === 1 ? { start: at(event), moved: false } : null;
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!viewer.scene) return;
    const now = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      canvas.style.cursor = viewer.on.cursor(viewer.place(now), viewer.reach);
      return;
    }
    if (pointers.size === 2) pinch(event.pointerId, before, now);
    else if (press && !drag(before, now)) return;
    pointers.set(event.pointerId, now);
  });

  canvas.addEventListener("pointerup", (event) => {
    const clicked = press && !press.moved && viewer.scene;
    pointers.delete(event.pointerId);
    press = null;
    if (!clicked) return;
    viewer.cursor = null;
    const place = viewer.place(at(event));
    const { width, height } = viewer.scene;
    const inside = place[0] > -0.5 && place[1] > -0.5 && place[0] < height - 0.5 && place[1] < width - 0.5;
    if (inside) viewer.on.pick(place, viewer.reach);
  });

  canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); press = null; });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => viewer.draw());

  function pinch(pointer, before, now) {
    const [other] = [...pointers].filter(([id]) => id !== pointer).map(([, place]) => place);
    const apart = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    viewer.zoomBy(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }

  /** Pan, once the press has moved far enough to be a drag. */
  function drag(before, now) {
    const { start } = press;
    if (Math.hypot(now[0] - start[0], now[1] - start[1]) > CLICK_PX) press.moved = true;
    if (!press.moved) return false;
    canvas.style.cursor = "grabbing";
    viewer.pan(before[0] - now[0], before[1] - now[1]);
    return true;
  }
}
