// The canvas: an image with its layers, with zoom and pan; reports where the user clicked.

import { blank, CROSSING } from "./layers.js";

const MAX_ZOOM = 24;
const CLICK_PX = 5; // a press that moves further is a drag
const REACH_PX = 13; // a click this close to a ring selects it
const STEP = 1.25;
const red = `rgb(${CROSSING})`;

export class Viewer {
  /**
   * `layers` are masks, bottom to top: {name, values, paint, level, thin}. `values` names them in the
   * scene, `paint` draws them. Without `level` they use the current one; `thin` ones must not fade when
   * zoomed out. `on` has pick(place, reachPx), cursor(place, reachPx) -> cursor style, moved(zoom).
   */
  constructor(canvas, layers, on) {
    this.canvas = canvas;
    this.layers = layers;
    this.on = on;
    this.show = {};
    this.scene = null;
    this.marks = [];
    this.zoom = 1;
    this.corner = [0, 0]; // x, y of the image at the canvas's upper left corner
    this.cursor = null; // [row, column] while the keyboard is used
    this.pointers = new Map();
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** Show the pictures of an answer; null clears the view. */
  setScene(scene, level) {
    const same = this.scene && scene && scene.width === this.scene.width && scene.key === this.scene.key;
    this.scene = scene;
    this.cursor = same ? this.cursor : null;
    this.masks = {};
    if (scene) {
      this.setLevel(level);
      if (!same) this.fit();
    }
    this.draw();
  }

  /** Draw masks of values above a level, 0 to 255. */
  setLevel(level) {
    this.level = level;
    this.draw();
  }

  setMarks(marks) { this.marks = marks; this.draw(); }
  setLayer(name, shown) { this.show[name] = shown; this.draw(); }

  fit() {
    if (!this.scene) return;
    const { width, height } = this.#size();
    this.zoom = Math.min(width / this.scene.width, height / this.scene.height);
    this.corner = [(this.scene.width - width / this.zoom) / 2, (this.scene.height - height / this.zoom) / 2];
    this.draw();
  }

  /** Zoom by a factor around a point of the canvas; default: the cursor or else the centre. */
  zoomBy(factor, at) {
    if (!this.scene) return;
    const { width, height } = this.#size();
    const [x, y] = at ?? (this.cursor ? this.#onCanvas(this.cursor) : [width / 2, height / 2]);
    const fitting = Math.min(width / this.scene.width, height / this.scene.height);
    const zoom = Math.min(MAX_ZOOM, Math.max(Math.min(fitting, 1) / 2, this.zoom * factor));
    this.corner = [this.corner[0] + x / this.zoom - x / zoom, this.corner[1] + y / this.zoom - y / zoom];
    this.zoom = zoom;
    this.#hold();
  }

  zoomIn() { this.zoomBy(STEP); }
  zoomOut() { this.zoomBy(1 / STEP); }
  actual() { this.zoomBy(1 / this.zoom); }

  /** Pan by pixels of the canvas. */
  pan(x, y) {
    this.corner = [this.corner[0] + x / this.zoom, this.corner[1] + y / this.zoom];
    this.#hold();
  }

  /** Place the keyboard cursor and scroll it into view. */
  setCursor(place) {
    if (!this.scene) return;
    const clip = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.cursor = [clip(place[0], this.scene.height), clip(place[1], this.scene.width)];
    const { width, height } = this.#size();
    const [x, y] = this.#onCanvas(this.cursor);
    const edge = Math.min(40, width / 4, height / 4);
    const over = (value, size) => Math.min(0, value - edge) + Math.max(0, value - size + edge);
    if (over(x, width) || over(y, height)) this.pan(over(x, width), over(y, height));
    else this.draw();
  }

  moveCursor(rows, columns) {
    const { width, height } = this.#size();
    const at = this.cursor ?? this.#place([width / 2, height / 2]);
    const step = Math.max(1, 8 / this.zoom);
    this.setCursor([at[0] + rows * step, at[1] + columns * step]);
  }

  get reach() { return REACH_PX / this.zoom; }

  /** The visible part of the image with its layers, at the image's resolution or finer. */
  picture() {
    const { width, height } = this.#size();
    const [left, top] = this.corner.map((value) => Math.max(0, Math.floor(value)));
    const right = Math.min(this.scene.width, Math.ceil(this.corner[0] + width / this.zoom));
    const bottom = Math.min(this.scene.height, Math.ceil(this.corner[1] + height / this.zoom));
    const scale = Math.max(1, this.zoom);
    const canvas = blank(Math.round((right - left) * scale), Math.round((bottom - top) * scale));
    this.#paint(canvas.getContext("2d"), scale, [left, top], Math.max(1, scale / this.zoom));
    return canvas;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const context = this.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (!this.scene) return;
      const dots = devicePixelRatio || 1;
      this.#paint(context, this.zoom * dots, this.corner, dots);
      if (this.cursor && document.activeElement === this.canvas) this.#crosshair(context, dots);
      this.on.moved(this.zoom);
    });
  }

  #paint(context, scale, [left, top], unit) {
    context.setTransform(scale, 0, 0, scale, -left * scale, -top * scale);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.scene.image, 0, 0);
    for (const layer of this.layers.filter(({ name }) => this.show[name])) {
      // A line 3 pixels wide must not fade when the whole image is in view.
      const places = layer.thin && this.zoom < 0.75 ? [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]] : [[0, 0]];
      for (const [x, y] of places) this.#drawMask(context, layer, scale, (x * unit) / scale, (y * unit) / scale);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!this.show.crossings) return;
    for (const { place, kind } of this.marks) {
      this.#ring(context, (place[1] + 0.5 - left) * scale, (place[0] + 0.5 - top) * scale, kind, unit);
    }
  }

  /** Draw a mask; it is cached until the level or the coarseness changes. */
  #drawMask(context, { name, values, paint, level = this.level }, scale, x, y) {
    const factor = 2 ** Math.max(0, Math.floor(Math.log2(1 / scale)));
    const { width, height } = this.scene;
    if (!this.scene.values[values]) return; // a preview
    const made = this.masks[name];
    if (made?.level !== level || made.factor !== factor) {
      this.masks[name] = { level, factor, canvas: paint(this.scene.values[values], width, height, level, factor) };
    }
    const { canvas } = this.masks[name];
    context.drawImage(canvas, x, y, canvas.width * factor, canvas.height * factor);
  }

  #ring(context, x, y, kind, unit) {
    const radius = Math.min(8.5, Math.max(5.5, 15 * this.zoom)); // smaller when zoomed out
    const circle = (width, colour) => {
      context.beginPath();
      context.arc(x, y, radius * unit, 0, 2 * Math.PI);
      context.lineWidth = width * unit;
      context.strokeStyle = colour;
      context.stroke();
    };
    if (kind === "removed") {
      circle(4.5, "rgb(255 255 255 / .85)");
      context.setLineDash([3.5 * unit, 3.2 * unit]);
      circle(2, "#2c3845");
      context.setLineDash([]);
      return;
    }
    circle(5.5, "#fff");
    circle(2.75, red);
    if (kind !== "added") return;
    // A cross marks what the user added, also without colour.
    for (const [width, colour] of [[4, "#fff"], [2, red]]) {
      context.beginPath();
      for (const [dx, dy] of [[radius / 2, 0], [0, radius / 2]]) {
        context.moveTo(x - dx * unit, y - dy * unit);
        context.lineTo(x + dx * unit, y + dy * unit);
      }
      context.lineWidth = width * unit;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  #crosshair(context, dots) {
    const [x, y] = this.#onCanvas(this.cursor).map((value) => value * dots);
    for (const [width, colour] of [[4, "#fff"], [1.6, "#111"]]) {
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 5 * dx * dots, y + 5 * dy * dots);
        context.lineTo(x + 18 * dx * dots, y + 18 * dy * dots);
      }
      context.lineWidth = width * dots;
      context.strokeStyle = colour;
      context.stroke();
    }
  }

  #size() { return { width: this.canvas.clientWidth || 1, height: this.canvas.clientHeight || 1 }; }
  #onCanvas([row, column]) { return [(column + 0.5 - this.corner[0]) * this.zoom, (row + 0.5 - this.corner[1]) * this.zoom]; }
  #place([x, y]) { return [this.corner[1] + y / this.zoom - 0.5, this.corner[0] + x / this.zoom - 0.5]; }

  /** Keep part of the image in view. */
  #hold() {
    const { width, height } = this.#size();
    const within = (value, size, view) => Math.min(size - 0.2 * Math.min(view, size), Math.max(0.2 * Math.min(view, size) - view, value));
    this.corner = [within(this.corner[0], this.scene.width, width / this.zoom), within(this.corner[1], this.scene.height, height / this.zoom)];
    this.draw();
  }

  #resize() {
    const dots = devicePixelRatio || 1;
    const { width, height } = this.#size();
    const before = [this.canvas.width, this.canvas.height];
    [this.canvas.width, this.canvas.height] = [Math.round(width * dots), Math.round(height * dots)];
    const fitted = this.scene && Math.abs(this.zoom - Math.min(before[0] / dots / this.scene.width, before[1] / dots / this.scene.height)) < 1e-3;
    if (fitted) this.fit();
    this.draw();
  }

  #listen() {
    const at = (event) => [event.offsetX, event.offsetY];
    const { canvas, pointers } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.scene) return;
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 400), at(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.scene) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      this.press = pointers.size === 1 ? { start: at(event), moved: false } : null;
    });
    canvas.addEventListener("pointermove", (event) => this.#dragged(event, at(event)));
    canvas.addEventListener("pointerup", (event) => {
      const { press } = this;
      pointers.delete(event.pointerId);
      this.press = null;
      if (!press || press.moved || !this.scene) return;
      this.cursor = null;
      const place = this.#place(at(event));
      const inside = place[0] > -0.5 && place[1] > -0.5 && place[0] < this.scene.height - 0.5 && place[1] < this.scene.width - 0.5;
      if (inside) this.on.pick(place, this.reach);
    });
    canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); this.press = null; });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.draw());
  }

  #dragged(event, now) {
    if (!this.scene) return;
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.canvas.style.cursor = this.on.cursor(this.#place(now), this.reach);
      return;
    }
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
      this.zoomBy(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (this.press) {
      const { start } = this.press;
      if (Math.hypot(now[0] - start[0], now[1] - start[1]) > CLICK_PX) this.press.moved = true;
      if (!this.press.moved) return;
      this.canvas.style.cursor = "grabbing";
      this.pan(before[0] - now[0], before[1] - now[1]);
    }
    this.pointers.set(event.pointerId, now);
  }
}
