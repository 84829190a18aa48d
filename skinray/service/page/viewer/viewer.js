// The canvas: an image with its layers, with zoom and pan; reports where the user clicked.

import { crosshair, ring, scaleBar, strip, stripHeight, wrap } from "./drawing.js";
import { blank } from "./layers.js";
import { asItIs, lit } from "./light.js";
import { listen } from "./pointer.js";

const MAX_ZOOM = 24;
const REACH_PX = 13; // a click this close to a ring selects it
const STEP = 1.25;
const SCREEN_PX = 1200; // rings and letters on a picture of this width are as on the screen

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
    this.umPerPx = null;
    this.light = asItIs;
    this.hidden = false;
    this.zoom = 1;
    this.corner = [0, 0]; // x, y of the image at the canvas's upper left corner
    this.cursor = null; // [row, column] while the keyboard is used
    listen(this);
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /** Show the pictures of an answer; null clears the view. */
  setScene(scene, level) {
    const same = this.scene && scene && scene.width === this.scene.width && scene.key === this.scene.key;
    this.scene = scene;
    this.cursor = same ? this.cursor : null;
    this.masks = {};
    this.shown = null; // the image in the chosen light
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
  /** The scale of the bar; null: no bar. */
  setScale(umPerPx) { this.umPerPx = umPerPx; this.draw(); }
  setLight(light) { this.light = light; this.shown = null; this.draw(); }
  /** Show the bare image for as long as it is wanted. */
  hide(hidden) { if (hidden !== this.hidden) { this.hidden = hidden; this.draw(); } }

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
    const [x, y] = at ?? (this.cursor ? this.onCanvas(this.cursor) : [width / 2, height / 2]);
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
    const [x, y] = this.onCanvas(this.cursor);
    const edge = Math.min(40, width / 4, height / 4);
    const over = (value, size) => Math.min(0, value - edge) + Math.max(0, value - size + edge);
    if (over(x, width) || over(y, height)) this.pan(over(x, width), over(y, height));
    else this.draw();
  }

  moveCursor(rows, columns) {
    const { width, height } = this.#size();
    const at = this.cursor ?? this.place([width / 2, height / 2]);
    const step = Math.max(1, 8 / this.zoom);
    this.setCursor([at[0] + rows * step, at[1] + columns * step]);
  }

  get reach() { return REACH_PX / this.zoom; }

  /** The whole image with what is shown over it, at its own resolution, and lines of text below it. */
  picture(texts) {
    const { width, height } = this.scene;
    const unit = Math.max(1, width / SCREEN_PX);
    const size = Math.round(15 * unit);
    const lines = wrap(blank(1, 1).getContext("2d"), texts, width, size);
    const canvas = blank(width, height + stripHeight(lines, size));
    const context = canvas.getContext("2d");
    this.#paint(context, { scale: 1, corner: [0, 0], unit, radius: 7.5 });
    if (this.umPerPx) scaleBar(context, width, height, 1 / this.umPerPx, unit);
    strip(context, lines, height, width, size);
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
      const radius = Math.min(8.5, Math.max(5.5, 15 * this.zoom)); // smaller when zoomed out
      this.#paint(context, { scale: this.zoom * dots, corner: this.corner, unit: dots, radius });
      const { width, height } = this.canvas;
      if (this.umPerPx) scaleBar(context, width, height, (this.zoom * dots) / this.umPerPx, dots);
      if (this.cursor && document.activeElement === this.canvas) {
        crosshair(context, ...this.onCanvas(this.cursor).map((value) => value * dots), dots);
      }
      this.on.moved(this.zoom);
    });
  }

  #paint(context, { scale, corner: [left, top], unit, radius }) {
    this.shown ??= lit(this.scene.image, this.light);
    context.setTransform(scale, 0, 0, scale, -left * scale, -top * scale);
    context.imageSmoothingEnabled = scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.shown, 0, 0);
    for (const layer of this.hidden ? [] : this.layers.filter(({ name }) => this.show[name])) {
      // A line 3 pixels wide must not fade when the whole image is in view.
      const places = layer.thin && scale / unit < 0.75 ? [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]] : [[0, 0]];
      for (const [x, y] of places) this.#drawMask(context, layer, scale, (x * unit) / scale, (y * unit) / scale);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.hidden || !this.show.crossings) return;
    for (const { place, kind } of this.marks) {
      ring(context, (place[1] + 0.5 - left) * scale, (place[0] + 0.5 - top) * scale, kind, radius, unit);
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

  #size() { return { width: this.canvas.clientWidth || 1, height: this.canvas.clientHeight || 1 }; }
  onCanvas([row, column]) { return [(column + 0.5 - this.corner[0]) * this.zoom, (row + 0.5 - this.corner[1]) * this.zoom]; }
  place([x, y]) { return [this.corner[1] + y / this.zoom - 0.5, this.corner[0] + x / this.zoom - 0.5]; }

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
}
