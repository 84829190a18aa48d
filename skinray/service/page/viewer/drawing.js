// What is drawn over the image: rings round the crossings, the keyboard's cursor, the scale bar.
// `unit` is how many pixels of the picture make one pixel of the screen.

import { CROSSING } from "./layers.js";

const red = `rgb(${CROSSING})`;
const LONGEST_BAR = 0.25; // of the picture's width
const FONT = 'system-ui, "Segoe UI", Roboto, Arial, sans-serif';

/** A ring: white and red; dashed for a crossing that the user removed, with a cross for an added one. */
export function ring(context, x, y, kind, radius, unit) {
  const circle = (width, colour) => {
    context.beginPath();
    context.arc(x, y, radius * unit, 0, 2 * Math.PI);
    stroke(context, width * unit, colour);
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
  // The cross tells what the user added, also without colour.
  for (const [width, colour] of [[4, "#fff"], [2, red]]) arms(context, x, y, 0, (radius / 2) * unit, width * unit, colour);
}

/** Where the keyboard's cursor is. */
export function crosshair(context, x, y, unit) {
  for (const [width, colour] of [[4, "#fff"], [1.6, "#111"]]) arms(context, x, y, 5 * unit, 18 * unit, width * unit, colour);
}

/** The longest round length, in micrometres, that a bar of at most `longest` micrometres can show. */
export function roundLength(longest) {
  const ten = 10 ** Math.floor(Math.log10(longest));
  return [5, 2, 1].find((times) => times * ten <= longest) * ten;
}

export const lengthText = (um) => (um >= 1000 ? `${um / 1000} mm` : `${um} µm`);

/** A bar at the lower right corner of a picture of `width` x `height`, of `perUm` pixels per micrometre. */
export function scaleBar(context, width, height, perUm, unit) {
  const um = roundLength((LONGEST_BAR * width) / perUm);
  const [long, thick, gap] = [um * perUm, 4 * unit, 14 * unit];
  const [x, y] = [width - gap - long, height - gap - thick];
  context.font = `600 ${13 * unit}px ${FONT}`;
  const words = lengthText(um);
  const box = Math.max(long, context.measureText(words).width) + 12 * unit;
  context.fillStyle = "rgb(255 255 255 / .82)";
  context.fillRect(x + long / 2 - box / 2, y - 22 * unit, box, 34 * unit);
  context.fillStyle = "#111";
  context.fillRect(x, y, long, thick);
  context.textAlign = "center";
  context.textBaseline = "bottom";
  context.fillText(words, x + long / 2, y - 3 * unit);
}

/** Lines of text in a white strip from `top` down; `size` is the height of a line's letters. */
export function strip(context, lines, top, width, size) {
  context.fillStyle = "#fff";
  context.fillRect(0, top, width, stripHeight(lines, size));
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = "#18222e";
  lines.forEach((line, index) => {
    context.font = lettering(size, index === 0);
    context.fillText(line, size, top + size * (1.25 + 1.5 * index));
  });
}

export const stripHeight = (lines, size) => Math.ceil(size * (1 + 1.5 * lines.length));

/** Texts broken into lines no wider than `width`; a word that is wider is broken too. */
export function wrap(context, texts, width, size) {
  const fits = (text) => context.measureText(text).width <= width - 2 * size;
  const lines = [];
  for (const [index, text] of texts.entries()) {
    context.font = lettering(size, index === 0);
    let line = "";
    for (const word of text.split(" ")) {
      const longer = line ? `${line} ${word}` : word;
      if (fits(longer)) { line = longer; continue; }
      if (line) lines.push(line);
      line = "";
      for (const letter of word) {
        if (line && !fits(line + letter)) { lines.push(line); line = ""; }
        line += letter;
      }
    }
    lines.push(line);
  }
  return lines;
}

const lettering = (size, bold) => `${bold ? "600 " : ""}${size}px ${FONT}`;

/** Four lines from `from` to `to` pixels off a place. */
function arms(context, x, y, from, to, width, colour) {
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + from * dx, y + from * dy);
    context.lineTo(x + to * dx, y + to * dy);
  }
  stroke(context, width, colour);
}

function stroke(context, width, colour) {
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}
