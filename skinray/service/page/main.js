// The page: what is shown follows from the list of images and the one chosen.

import * as edit from "./corrections.js";
import * as files from "./downloads.js";
import { decode, nearestTrue, preview } from "./layers.js";
import { edited, marks, newItem, points, row, threshold } from "./items.js";
import { onDrop, onKeys } from "./input.js";
import { Queue } from "./queue.js";
import { drawBundle, drawProgress, drawTable } from "./table.js";
import { Viewer } from "./viewer.js";
import * as service from "./service.js";

const $ = (id) => document.getElementById(id);
const SNAP_PX = 17; // a crossing lies on the boundary: the window of the two-sided filter
const items = [];
const SAID_MS = 6000;
let current = null;
let shown = null; // the answer whose pictures the viewer holds
let canSave = false;

const queue = new Queue((item) => {
  if (!items.includes(item)) return;
  if (!current) choose(item);
  else if (item === current) showCurrent();
  showTable();
  if (item.answer?.bundle) drawBundle($("bundle"), item.answer.bundle);
});
const viewer = new Viewer($("canvas"), {
  pick,
  hover: (place, reach) => Boolean(shown) && edit.nearest(marks(current).map((mark) => mark.place), place, reach) >= 0,
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

function remove(item) {
  const index = items.indexOf(item);
  queue.drop(item);
  items.splice(index, 1);
  if (item === current) choose(items[Math.min(index, items.length - 1)] ?? null);
  else showTable();
}

function showTable() {
  drawTable($("rows"), items, current, { choose, remove });
  drawProgress($("progress-text"), $("progress"), items);
  $("downloads").disabled = items.length === 0;
}

// --- the image chosen -----------------------------------------------------------------------

async function showCurrent() {
  const item = current;
  const answer = item?.answer ?? null;
  const failed = item?.status === "failed";
  $("empty").hidden = Boolean(item);
  $("busy").hidden = !item || !(item.status === "running" || item.status === "waiting");
  $("busy-text").textContent = item?.note || (item?.status === "waiting" ? "Waiting…" : "Counting…");
  $("failed").hidden = !failed || Boolean(answer);
  $("failed-title").textContent = item?.error?.title ?? "Failed";
  $("failed-text").textContent = item?.error?.message ?? "";
  $("current").textContent = item ? item.name : "No image yet";
  $("controls").disabled = !answer;
  for (const id of ["geojson", "png"]) $(id).disabled = !answer;
  showFigures();
  if (answer !== shown) await showPictures(item, answer);
  else if (!item) viewer.setScene(null);
  else if (!answer) await showPreview(item);
}

/** While an image is counted, show its file as it is. */
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
    const scene = await decode(answer.blobs);
    if (current !== item || item.answer !== answer) return undefined;
    viewer.setScene({ ...scene, key: item.id }, level());
    shown = answer;
    viewer.setMarks(marks(item));
  } catch (error) {
    say(`The pictures of ${item.name} cannot be shown: ${error.message}`);
  }
  return undefined;
}

const level = () => 255 * threshold(current);

function showFigures() {
  const answer = current?.answer;
  const values = answer ? row(current) : {};
  $("count").firstElementChild.textContent = answer ? values.count : "–";
  $("count").lastElementChild.textContent = values.count === 1 ? "crossing" : "crossings";
  $("model-count").textContent = answer ? `${values.model_count}` : "–";
  const mm = values.boundary_mm;
  $("length").textContent = answer ? (mm ? `${mm.toFixed(3)} mm` : `${Math.round(values.boundary_px)} px`) : "–";
  $("density").textContent = values.density_per_mm || values.density_per_mm === 0 ? `${values.density_per_mm.toFixed(2)} per mm` : "–";
  const { added, removed } = current?.history.now ?? edit.none;
  $("edits").textContent = added.length + removed.length ? `${added.length} added, ${removed.length} removed` : "No corrections";
  $("edits").classList.toggle("some", added.length + removed.length > 0);
  $("undo").disabled = !current?.history.past.length;
  $("redo").disabled = !current?.history.future.length;
  $("reset").disabled = !current || !edited(current);
  $("label-fields").disabled = !answer || !canSave || current.status !== "done";
  if (canSave) showLabelNote();
  showScale();
  if (!answer) return;
  const slider = $("threshold");
  slider.max = answer.sweep.length - 1;
  slider.value = current.step;
  const own = current.step === current.modelStep ? " (model)" : "";
  $("threshold-value").textContent = threshold(current).toFixed(2) + own;
  slider.setAttribute("aria-valuetext", `${threshold(current).toFixed(2)}, ${values.count} crossings`);
}

function showScale() {
  const input = $("scale");
  const used = current?.umPerPx ?? current?.answer?.um_per_px ?? "";
  if (document.activeElement !== input) input.value = used;
  const refused = current?.status === "failed" && current.answer;
  input.setAttribute("aria-invalid", String(Boolean(refused)));
  $("scale-note").classList.toggle("bad", Boolean(refused));
  const stated = current?.answer && current.umPerPx === null && used !== "";
  const words = stated ? "As the file states it." : used === "" ? "Unknown: lengths stay in pixels." : "As entered.";
  $("scale-note").textContent = refused ? current.error.message : words;
  $("scale-all").disabled = used === "" || items.length < 2;
}

/** Tell what happened, for a while; also to those who hear the page. */
function say(text) {
  $("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("said").textContent = ""; }, SAID_MS);
}

// --- corrections ----------------------------------------------------------------------------

function change(history, words) {
  current.history = history;
  current.saved = null;
  showFigures();
  showTable();
  if (shown) viewer.setMarks(marks(current));
  if (words) say(words);
}

function pick(place, reach) {
  if (!shown) return;
  const now = current.history.now;
  const taken = edit.toggle(now, marks(current), place, reach);
  if (taken) {
    const back = taken.removed.length < now.removed.length;
    change(edit.change(current.history, taken), back ? "Crossing brought back" : "Crossing removed");
    return;
  }
  const { boundary, width, height } = viewer.scene;
  const on = nearestTrue(boundary, width, height, place, Math.max(SNAP_PX, reach));
  const words = on ? "Crossing added" : "Crossing added off the boundary: it counts, but a label cannot hold it";
  change(edit.change(current.history, edit.add(now, on ?? place.map(Math.round))), words);
}

const undo = () => current?.history.past.length && change(edit.undo(current.history), "Undone");
const redo = () => current?.history.future.length && change(edit.redo(current.history), "Redone");
for (const [id, act] of [["undo", undo], ["redo", redo]]) $(id).addEventListener("click", act);
$("reset").addEventListener("click", () => change(edit.change(current.history, edit.none), "Corrections discarded"));

$("threshold").addEventListener("input", (event) => {
  current.step = Number(event.target.value);
  current.saved = null;
  if (shown) viewer.setLevel(level());
  change(current.history);
});

$("scale").addEventListener("change", (event) => {
  const value = Number(event.target.value);
  current.umPerPx = value > 0 ? value : null;
  queue.push(current);
});
$("scale-all").addEventListener("click", () => {
  const value = current.umPerPx ?? current.answer.um_per_px;
  for (const item of items) {
    if ((item.umPerPx ?? item.answer?.um_per_px) === value) continue;
    item.umPerPx = value;
    queue.push(item);
  }
});

// --- view -----------------------------------------------------------------------------------

for (const name of ["nerves", "boundary", "crossings"]) {
  $(`layer-${name}`).addEventListener("change", (event) => viewer.setLayer(name, event.target.checked));
}
for (const [id, act] of [["zoom-in", "zoomIn"], ["zoom-out", "zoomOut"], ["fit", "fit"], ["actual", "actual"]]) {
  $(id).addEventListener("click", () => viewer[act]());
}

function step(by) {
  const all = marks(current).sort((a, b) => a.place[1] - b.place[1] || a.place[0] - b.place[0]); // along the image
  if (!all.length) return say("No crossing");
  const at = viewer.cursor ? edit.nearest(all.map((mark) => mark.place), viewer.cursor, 2) : -1;
  const index = at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length;
  const { place, kind } = all[index];
  viewer.setCursor(place);
  const words = { model: "found by the model", added: "added", removed: "removed" };
  return say(`${index + 1} of ${all.length}, ${words[kind]}, row ${Math.round(place[0])}, column ${Math.round(place[1])}`);
}

onKeys($("canvas"), { viewer, pick, step, undo, redo, ready: () => Boolean(shown) });

// --- files in -------------------------------------------------------------------------------

$("choose").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
$("choose-empty").addEventListener("click", () => $("choose").click());
$("retry").addEventListener("click", () => queue.push(current));
onDrop(addFiles, (over) => { $("dropping").hidden = !over; });

// --- files out ------------------------------------------------------------------------------

$("csv").addEventListener("click", () => files.save("skinray-counts.csv", files.csv(items.map(row)), "text/csv"));
$("png").addEventListener("click", () => {
  const name = files.stem(current.name);
  viewer.picture().toBlob((blob) => files.save(`${name}-overlay.png`, blob, "image/png"), "image/png");
});
$("geojson").addEventListener("click", async () => {
  const item = current;
  $("geojson").disabled = true;
  try {
    item.answer.geojson ??= await service.geojson(item.file, item.umPerPx);
    const text = JSON.stringify(files.corrected(item.answer.geojson, points(item)), null, 1);
    files.save(`${files.stem(item.name)}.geojson`, text, "application/geo+json");
    $("download-note").hidden = true;
  } catch (error) {
    $("download-note").hidden = false;
    $("download-note").textContent = error.message;
  }
  $("geojson").disabled = !current?.answer;
});

// --- labels ---------------------------------------------------------------------------------

function labelNote(text, look = "") {
  const note = $("label-note");
  note.className = `quiet ${look}`;
  if (note.textContent !== text) note.textContent = text;
}

function showLabelNote() {
  const saved = current?.saved;
  labelNote(saved?.text ?? "Stores the image, its masks and your corrected crossings.", saved?.look);
}

$("label-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const item = current;
  $("save").disabled = true;
  labelNote("Saving…");
  try {
    const umPerPx = item.umPerPx ?? item.answer.um_per_px;
    const stored = await service.saveLabel(item.file, umPerPx, threshold(item), points(item), $("subject").value.trim());
    const text = `${stored.replaced ? "Replaced" : "Saved"}: ${stored.count} crossings; ${stored.images} labelled image${stored.images === 1 ? "" : "s"} in all.`;
    item.saved = { text, look: "good" };
  } catch (error) {
    item.saved = { text: error.message, look: "bad" };
  }
  $("save").disabled = false;
  if (item === current) showLabelNote();
});

service.labels().then(({ enabled }) => {
  canSave = enabled;
  if (!enabled) labelNote("This service stores no labels: its owner names a labels folder to switch it on.");
  showFigures();
});
