// Biopsies: crossings and their corrections, the scale, and labels for training.

import * as edit from "./corrections.js";
import * as files from "./downloads.js";
import { now, state, threshold } from "./items.js";
import { BOUNDARY, nearestTrue, NERVE, tint } from "./layers.js";
import { number } from "./table.js";
import * as service from "./service.js";

const SNAP_PX = 17; // crossings are on the boundary; the window of the two-sided filter

/** Everything that the page does for biopsies only; `photos` is the counterpart for photographs. */
export function biopsies(page) {
  const { $, say } = page;
  let canSave = false;

  // --- one image: `umPerPx` as entered by the user, `history` of corrections, `saved` label ---

  const history = (item) => (item.history ??= edit.fresh());
  const marks = (item) => edit.apply(now(item).points, history(item).now);
  const points = (item) => edit.counted(marks(item)).map((mark) => mark.place);
  const edited = (item) => history(item).now.added.length + history(item).now.removed.length > 0;

  async function ask(item, signal, waiting) {
    const answer = await service.count(item.file, item.umPerPx, signal, waiting);
    const at = ({ nerve_threshold, ...found }) => ({ threshold: nerve_threshold, ...found });
    return { ...answer, sweep: answer.sweep.map(at), own: at(answer) };
  }

  /** The table's values for an image, named as in a scored cohort's counts. */
  function row(item) {
    const { answer } = item;
    if (!answer) return { ...state(item), um_per_px: item.umPerPx };
    const umPerPx = item.umPerPx ?? answer.um_per_px;
    const mm = umPerPx ? (answer.boundary_px * umPerPx) / 1000 : null;
    const count = points(item).length;
    const { added, removed } = history(item).now;
    return {
      ...state(item), count, model_count: answer.count, nerve_threshold: threshold(item),
      added: added.length, removed: removed.length,
      boundary_px: answer.boundary_px, boundary_mm: mm, density_per_mm: mm ? count / mm : null,
      um_per_px: umPerPx, width: answer.width, height: answer.height, bundle: answer.bundle,
      note: answer.note,
    };
  }

  function cells(item) {
    const values = row(item);
    return [
      values.count ?? "–", values.model_count ?? "–", number(values.boundary_mm, 3),
      number(values.density_per_mm, 2), values.um_per_px ?? "–",
    ];
  }

  // --- figures of the selected image ------------------------------------------------------

  function showFigures(item) {
    const answer = item?.answer;
    const values = answer ? row(item) : {};
    $("count").firstElementChild.textContent = answer ? values.count : "–";
    $("count").lastElementChild.textContent = values.count === 1 ? "crossing" : "crossings";
    $("model-count").textContent = answer ? `${values.model_count}` : "–";
    const mm = values.boundary_mm;
    $("length").textContent = answer ? (mm ? `${mm.toFixed(3)} mm` : `${Math.round(values.boundary_px)} px`) : "–";
    $("density").textContent = values.density_per_mm || values.density_per_mm === 0 ? `${values.density_per_mm.toFixed(2)} per mm` : "–";
    const { added, removed } = item ? history(item).now : edit.none;
    $("edits").textContent = added.length + removed.length ? `${added.length} added, ${removed.length} removed` : "No corrections";
    $("edits").classList.toggle("some", added.length + removed.length > 0);
    $("undo").disabled = !item || !history(item).past.length;
    $("redo").disabled = !item || !history(item).future.length;
    $("reset").disabled = !item || !edited(item);
    $("label-fields").disabled = !answer || !canSave || item.status !== "done";
    for (const id of ["geojson", "png"]) $(id).disabled = !answer;
    if (canSave) showLabelNote();
    showScale(item);
    return answer ? `${values.count} crossings` : "";
  }

  function showScale(item) {
    const input = $("scale");
    const used = item?.umPerPx ?? item?.answer?.um_per_px ?? "";
    if (document.activeElement !== input) input.value = used;
    const refused = item?.status === "failed" && item.answer;
    input.setAttribute("aria-invalid", String(Boolean(refused)));
    $("scale-note").classList.toggle("bad", Boolean(refused));
    const stated = item?.answer && !item.umPerPx && used !== "";
    const words = stated ? "From the file." : used === "" ? "Unknown: lengths are in pixels." : "As entered.";
    $("scale-note").textContent = refused ? item.error.message : words;
    $("scale-all").disabled = used === "" || page.items.length < 2;
  }

  // --- corrections ----------------------------------------------------------------------------

  function change(edits, words) {
    page.current.history = edits;
    page.current.saved = null;
    page.changed();
    if (words) say(words);
  }

  function pick(place, reach) {
    const item = page.current;
    const before = history(item).now;
    const taken = edit.toggle(before, marks(item), place, reach);
    if (taken) {
      const back = taken.removed.length < before.removed.length;
      change(edit.change(item.history, taken), back ? "Crossing restored" : "Crossing removed");
      return;
    }
    const { values, width, height } = page.viewer.scene;
    const on = nearestTrue(values.boundary, width, height, place, Math.max(SNAP_PX, reach));
    const words = on ? "Crossing added" : "Crossing added off the boundary: it is counted, but it cannot be saved in a label";
    change(edit.change(item.history, edit.add(before, on ?? place.map(Math.round))), words);
  }

  function step(by) {
    const all = marks(page.current).sort((a, b) => a.place[1] - b.place[1] || a.place[0] - b.place[0]); // along the image
    if (!all.length) return say("No crossings");
    const { cursor } = page.viewer;
    const at = cursor ? edit.nearest(all.map((mark) => mark.place), cursor, 2) : -1;
    const index = at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length;
    const { place, kind } = all[index];
    page.viewer.setCursor(place);
    const words = { model: "found by the model", added: "added", removed: "removed" };
    return say(`${index + 1} of ${all.length}, ${words[kind]}, row ${Math.round(place[0])}, column ${Math.round(place[1])}`);
  }

  const past = () => (page.current ? history(page.current).past : []);
  const future = () => (page.current ? history(page.current).future : []);
  const undo = () => past().length && change(edit.undo(page.current.history), "Undone");
  const redo = () => future().length && change(edit.redo(page.current.history), "Redone");
  for (const [id, act] of [["undo", undo], ["redo", redo]]) $(id).addEventListener("click", act);
  $("reset").addEventListener("click", () => change(edit.change(page.current.history, edit.none), "Corrections discarded"));

  $("scale").addEventListener("change", (event) => {
    const value = Number(event.target.value);
    page.current.umPerPx = value > 0 ? value : null;
    page.queue.push(page.current);
  });
  $("scale-all").addEventListener("click", () => {
    const value = page.current.umPerPx ?? page.current.answer.um_per_px;
    for (const item of page.items) {
      if ((item.umPerPx ?? item.answer?.um_per_px) === value) continue;
      item.umPerPx = value;
      page.queue.push(item);
    }
  });

  // --- downloads ------------------------------------------------------------------------------

  $("png").addEventListener("click", () => {
    const name = files.stem(page.current.name);
    page.viewer.picture().toBlob((blob) => files.save(`${name}-overlay.png`, blob, "image/png"), "image/png");
  });
  $("geojson").addEventListener("click", () => page.download($("geojson"), async (item) => {
    item.answer.geojson ??= await service.geojson(item.file, item.umPerPx);
    const text = JSON.stringify(files.corrected(item.answer.geojson, points(item)), null, 1);
    files.save(`${files.stem(item.name)}.geojson`, text, "application/geo+json");
  }));

  // --- labels ---------------------------------------------------------------------------------

  function labelNote(text, look = "") {
    const note = $("label-note");
    note.className = `quiet ${look}`;
    if (note.textContent !== text) note.textContent = text;
  }

  function showLabelNote() {
    const saved = page.current?.saved;
    labelNote(saved?.text ?? "Stores the image, its masks and your corrected crossings.", saved?.look);
  }

  $("label-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const item = page.current;
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
    if (item === page.current) showLabelNote();
  });

  service.labels().then(({ enabled }) => {
    canSave = enabled;
    if (!enabled) labelNote("This service stores no labels: ask its operator to set a labels folder.");
    showFigures(page.current);
  });

  return {
    ask, row, cells, marks, showFigures, pick, step, undo, redo,
    title: "skinray: nerve crossings in skin biopsies",
    image: "Biopsy",
    words: { waiting: "Waiting", running: "Counting…", done: "Counted", failed: "Failed" },
    done: "counted",
    state: (item) => (item.answer && edited(item) ? "Corrected" : null),
    cursor: (place, reach) => (page.shown && edit.nearest(marks(page.current).map((mark) => mark.place), place, reach) >= 0 ? "pointer" : "crosshair"),
    moved: (item) => { item.saved = null; },
    values: ["nerve", "boundary"],
    level: (value) => 255 * value,
    layers: [
      { name: "boundary", values: "boundary", level: 127, paint: tint(BOUNDARY), thin: true },
      { name: "nerves", values: "nerve", paint: tint(NERVE) },
    ],
    table: "skinray-counts.csv",
    columns: [
      "image", "status", "error", "count", "model_count", "nerve_threshold", "added", "removed", "boundary_px",
      "boundary_mm", "density_per_mm", "um_per_px", "width", "height", "bundle", "note",
    ],
  };
}
