// The page: everything shown follows from the list of images and the selected one.

import { biopsies } from "./biopsies/biopsies.js";
import * as files from "./downloads.js";
import { decode, preview } from "./viewer/layers.js";
import { newItem, threshold } from "./items.js";
import { onDrop, onHold, onKeys } from "./input.js";
import { photos } from "./photos.js";
import { Queue } from "./queue.js";
import { Removal } from "./removal.js";
import * as service from "./service.js";
import { drawBundle, drawProgress, drawTable } from "./table.js";
import { Viewer } from "./viewer/viewer.js";

const $ = (id) => document.getElementById(id);
const items = [];
const SAID_MS = 6000;
let current = null;
let shown = null; // the answer whose pictures the viewer holds

/** What the module for biopsies or photographs needs from the page. */
const page = {
  $, items, say, changed, download,
  bundle: null, // what the service says of the bundle in service
  get current() { return current; },
  get shown() { return shown; },
  get viewer() { return viewer; },
  get queue() { return queue; },
};
const kind = { photo: photos, biopsy: biopsies }[document.documentElement.dataset.kind](page);
document.title = kind.title;
$("canvas").setAttribute("aria-label", kind.image);

const queue = new Queue(kind.ask, (item) => {
  if (!items.includes(item)) return;
  if (!current) choose(item);
  else if (item === current) showCurrent();
  showTable();
  if (item.answer && item.status === "done") learnFrom(item.answer);
});

/** Show the bundle in service, and what it says of the selected image. */
function showBundle() {
  if (page.bundle) drawBundle($("bundle"), $("bundle-note"), { ...page.bundle, note: current?.answer?.note });
}

/** Ask for the bundle in service. */
async function learn() {
  page.bundle = (await service.bundle()) ?? page.bundle;
  showFigures();
}

/** An answer names its bundle; if it is a new one, ask for the rest. */
function learnFrom({ bundle: id, synthetic }) {
  if (id === page.bundle?.id) return;
  page.bundle = { id, synthetic };
  learn();
}
learn();

const pick = (place, reach) => shown && kind.pick(place, reach);
const viewer = new Viewer($("canvas"), kind.layers, {
  pick,
  cursor: kind.cursor,
  moved: (zoom) => { $("zoom").textContent = `${Math.round(100 * zoom)} %`; },
});

// --- the list -------------------------------------------------------------------------------

function addFiles(list) {
  const added = [...list].map(newItem);
  items.push(...added);
  for (const item of added) queue.push(item);
}

function choose(item) {
  current = item;
  showCurrent();
  showTable();
}

/** Select the next or the previous image. */
function turn(by) {
  const item = items[items.indexOf(current) + by];
  if (!item) return;
  choose(item);
  say(`${item.name}, image ${items.indexOf(item) + 1} of ${items.length}`);
}
$("next").addEventListener("click", () => turn(1));
$("previous").addEventListener("click", () => turn(-1));

const removal = new Removal($("put-back"), items, {
  unsaved: kind.unsaved,
  removed: (item, index) => {
    queue.drop(item);
    if (item === current) choose(items[Math.min(index, items.length - 1)] ?? null);
    else changed();
  },
  back: (item) => {
    if (!item.answer && item.status !== "failed") queue.push(item);
    choose(item);
    say(`${item.name} is back`);
  },
});
window.addEventListener("beforeunload", (event) => {
  if (items.some((item) => kind.unsaved(item).length)) event.preventDefault();
});

function showTable() {
  drawTable($("rows"), items, current, kind, { choose, remove: (item) => removal.remove(item) });
  drawProgress($("progress-text"), $("progress"), items, kind);
  $("downloads").disabled = items.length === 0;
  const index = items.indexOf(current);
  $("previous").disabled = index <= 0;
  $("next").disabled = index < 0 || index === items.length - 1;
}

// --- the selected image -----------------------------------------------------------------------

async function showCurrent() {
  const item = current;
  const answer = item?.answer ?? null;
  const failed = item?.status === "failed";
  $("empty").hidden = Boolean(item);
  $("busy").hidden = !item || !(item.status === "running" || item.status === "waiting");
  $("busy-text").textContent = item?.note || (item?.status === "waiting" ? "Waiting…" : kind.words.running);
  $("failed").hidden = !failed || Boolean(answer);
  $("failed-title").textContent = item?.error?.title ?? "Failed";
  $("failed-text").textContent = item?.error?.message ?? "";
  $("current").textContent = item ? item.name : "No image selected";
  $("controls").disabled = !answer;
  showFigures();
  if (answer !== shown) await showPictures(item, answer);
  else if (!item) viewer.setScene(null);
  else if (!answer) await showPreview(item);
}

/** While an image is processed, show its file as it is. */
async function showPreview(item) {
  if (item.status !== "waiting" && item.status !== "running") return;
  if (viewer.scene?.key === item.id) return;
  viewer.setScene(null);
  const scene = await preview(item.file);
  if (!scene || current !== item || item.answer) return;
  viewer.setMarks([]);
  viewer.setScene({ ...scene, key: item.id }, 255);
}

async function showPictures(item, answer) {
  shown = null;
  if (!answer) {
    viewer.setScene(null);
    return item && showPreview(item);
  }
  try {
    const scene = await decode(answer.blobs, kind.values);
    if (current !== item || item.answer !== answer) return undefined;
    viewer.setScene({ ...scene, key: item.id }, level());
    shown = answer;
    viewer.setMarks(kind.marks(item));
  } catch (error) {
    say(`Cannot show the pictures of ${item.name}: ${error.message}`);
  }
  return undefined;
}

const level = () => kind.level(threshold(current));

function showFigures() {
  const summary = kind.showFigures(current);
  showBundle();
  const answer = current?.answer;
  if (!answer) return;
  const slider = $("threshold");
  slider.max = answer.sweep.length - 1;
  slider.value = current.step;
  const own = current.step === current.modelStep ? " (model)" : "";
  $("threshold-value").textContent = threshold(current).toFixed(2) + own;
  slider.setAttribute("aria-valuetext", `${threshold(current).toFixed(2)}, ${summary}`);
}

/** Redraw after the user changed the selected image. */
function changed() {
  removal.settle();
  showFigures();
  showTable();
  if (shown) viewer.setMarks(kind.marks(current));
}

/** Show a message for a while; screen readers announce it. */
function say(text) {
  $("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("said").textContent = ""; }, SAID_MS);
}

$("threshold").addEventListener("input", (event) => {
  current.step = Number(event.target.value);
  kind.moved(current);
  if (shown) viewer.setLevel(level());
  changed();
});

// --- view -----------------------------------------------------------------------------------

for (const box of document.querySelectorAll("[data-layer]")) {
  viewer.setLayer(box.dataset.layer, box.checked);
  box.addEventListener("change", () => viewer.setLayer(box.dataset.layer, box.checked));
}
for (const [id, act] of [["zoom-in", "zoomIn"], ["zoom-out", "zoomOut"], ["fit", "fit"], ["actual", "actual"]]) {
  $(id).addEventListener("click", () => viewer[act]());
}
onKeys($("canvas"), {
  viewer, pick, turn, step: kind.step, mark: kind.mark, ready: () => Boolean(shown),
  undo: () => removal.undo() || kind.undo(), redo: kind.redo,
  help: () => { $("keys").open = !$("keys").open; },
});
onHold($("canvas"), $("hide"), (hidden) => viewer.hide(hidden));

const light = ["brightness", "contrast"];
const setLight = () => viewer.setLight(Object.fromEntries(light.map((name) => [name, Number($(name).value)])));
for (const name of light) $(name).addEventListener("input", setLight);
$("light-reset").addEventListener("click", () => {
  for (const name of light) $(name).value = 0;
  setLight();
});

// --- uploads and downloads -----------------------------------------------------------------------

$("choose").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
$("choose-empty").addEventListener("click", () => $("choose").click());
$("retry").addEventListener("click", () => queue.push(current));
onDrop(addFiles, (over) => { $("dropping").hidden = !over; });

$("csv").addEventListener("click", () => {
  files.save(kind.table, files.csv(kind.columns, items.map(kind.row)), "text/csv");
  kind.tableSaved();
});

/** Download a file of the selected image from the service; the button is disabled meanwhile. */
async function download(button, make) {
  const note = (text) => {
    $("download-note").hidden = !text;
    $("download-note").textContent = text;
  };
  button.disabled = true;
  try {
    await make(current, note);
    note("");
  } catch (error) {
    note(error.message);
  }
  button.disabled = !current?.answer;
}
