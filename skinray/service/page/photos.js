// Photographs: the skin mask, the cut-out, and the confidence of the network.

import * as files from "./downloads.js";
import { now, state, threshold } from "./items.js";
import { certainty, cover, GROUND, SKIN, tint } from "./viewer/layers.js";
import { number } from "./table.js";
import * as service from "./service.js";

const percent = (fraction) => `${(100 * fraction).toFixed(1)} %`;

/** Everything that the page does for photographs only; `biopsies` is the counterpart for biopsies. */
export function photos(page) {
  const { $, say } = page;

  async function ask(item, signal, waiting) {
    const answer = await service.findSkin(item.file, signal, waiting);
    const own = { threshold: answer.threshold, skin_px: answer.skin_px, skin_fraction: answer.skin_fraction };
    delete answer.mask; // the viewer draws it from the map
    return { ...answer, own };
  }

  /** The table's values for an image, named as in a scored cohort's areas. */
  function row(item) {
    const { answer } = item;
    if (!answer) return state(item);
    return {
      ...state(item), skin_px: now(item).skin_px, skin_fraction: now(item).skin_fraction,
      threshold: threshold(item), model_fraction: answer.own.skin_fraction,
      confidence: answer.confidence, width: answer.width, height: answer.height, bundle: answer.bundle,
      note: answer.note,
    };
  }

  function cells(item) {
    if (!item.answer) return Array(5).fill("–");
    const values = row(item);
    return [
      percent(values.skin_fraction), percent(values.model_fraction), values.skin_px,
      number(values.confidence, 3), `${values.width} × ${values.height}`,
    ];
  }

  function showFigures(item) {
    const values = item?.answer ? row(item) : null;
    $("fraction").firstElementChild.textContent = values ? percent(values.skin_fraction) : "–";
    $("model-fraction").textContent = values ? percent(values.model_fraction) : "–";
    $("skin-px").textContent = values ? `${values.skin_px} px` : "–";
    $("confidence").textContent = values ? number(values.confidence, 3) : "–";
    for (const id of ["mask", "cutout"]) $(id).disabled = !values;
    return values ? `${percent(values.skin_fraction)} skin` : "";
  }

  /** Report the pixel that the user clicked. */
  function pick(place) {
    const { values, width, height } = page.viewer.scene;
    const [row_, column] = [Math.min(height - 1, Math.round(place[0])), Math.min(width - 1, Math.round(place[1]))];
    const value = values.skin[row_ * width + column];
    const word = value > page.viewer.level ? "skin" : "not skin";
    say(`Row ${row_}, column ${column}: ${word}, probability ${(value / 255).toFixed(2)}`);
  }

  for (const what of ["mask", "cutout"]) {
    $(what).addEventListener("click", () => page.download($(what), async (item, waiting) => {
      const blob = await service.picture(item.file, what, threshold(item), waiting);
      files.save(`${files.stem(item.name)}-${what}.png`, blob, "image/png");
    }));
  }

  const nothing = () => {};
  return {
    ask, row, cells, showFigures, pick,
    title: "skinray: skin in photographs",
    image: "Photograph",
    words: { waiting: "Waiting", running: "Segmenting…", done: "Segmented", failed: "Failed" },
    done: "segmented",
    texts: 0,
    marks: () => [],
    state: nothing,
    unsaved: () => [],
    tableSaved: nothing,
    mark: nothing,
    step: nothing,
    undo: nothing,
    redo: nothing,
    moved: nothing,
    cursor: () => "crosshair",
    values: ["skin"],
    level: (value) => 255 * value - 1e-6, // the threshold itself is skin
    layers: [
      { name: "confidence", values: "skin", level: 0, paint: certainty() },
      { name: "mask", values: "skin", paint: tint(SKIN, 0.5) },
      { name: "cutout", values: "skin", paint: cover(GROUND) },
    ],
    table: "skinray-areas.csv",
    columns: [
      "image", "status", "error", "skin_px", "skin_fraction", "confidence", "threshold", "model_fraction", "width",
      "height", "bundle", "note",
    ],
  };
}
