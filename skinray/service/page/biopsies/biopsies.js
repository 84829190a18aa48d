// Biopsies: crossings and their corrections, the scale, the review, and means per subject.

import * as files from "../downloads.js";
import { now, state, threshold } from "../items.js";
import * as service from "../service.js";
import { plain, worth } from "../table.js";
import { BOUNDARY, nearestTrue, NERVE, outline, tint } from "../viewer/layers.js";
import * as edit from "./corrections.js";
import { labelForm } from "./label.js";
import * as review from "./review.js";
import * as scale from "./scale.js";
import * as subjects from "./subjects.js";

const SNAP_PX = 17; // crossings are on the boundary; the window of the two-sided filter

/** Everything that the page does for biopsies only; `photos` is the counterpart for photographs. */
export function biopsies(page) {
  const { $, say } = page;

  // --- one image: what the user did to it is in `history`, `review`, `umPerPx` and `kept` -------

  const history = (item) => (item.history ??= edit.fresh());
  const marks = (item) => edit.apply(now(item).points, history(item).now);
  const points = (item) => edit.counted(marks(item)).map((mark) => mark.place);
  const edited = (item) => history(item).now.added.length + history(item).now.removed.length > 0;
  const isStored = (item) => history(item).now === (item.kept ?? edit.none);
  const keep = (item, edits = history(item).now) => { item.kept = edits; };

  async function ask(item, signal, waiting) {
    const asked = item.umPerPx ?? null;
    try {
      const answer = await service.count(item.file, asked, signal, waiting);
      const at = ({ nerve_threshold, ...found }) => ({ threshold: nerve_threshold, ...found });
      return { ...answer, sweep: answer.sweep.map(at), own: at(answer), asked };
    } catch (error) {
      if (!item.answer || error.status !== 422) throw error;
      item.scaleTyped = String(asked); // the image was good, so its new scale is not
      item.scaleProblem = error.message;
      return item.answer;
    }
  }

  /** Whether there is nothing that a nerve could cross: the service then gives no density at any scale. */
  const isBare = ({ boundary_px, um_per_px, density_per_mm, warnings: said = [] }) =>
    boundary_px === 0 || (um_per_px !== null && density_per_mm === null) || said.some((one) => one.includes("no tissue"));

  /** What an image's own answer and its scale leave to be said. */
  const warnings = (item) => [...(item.answer?.warnings ?? []), ...(item.scaleProblem ? [`Scale refused: ${item.scaleProblem}`] : [])];

  /** The table's values for an image, named as in a scored cohort's counts. */
  function row(item) {
    const { answer } = item;
    const { subject, reader, note, reviewed } = review.of(item);
    const own = { ...state(item), subject, reader, reviewed: reviewed ? "yes" : "no", reader_note: note };
    if (!answer) return own;
    const umPerPx = scale.applied(item);
    const mm = umPerPx ? answer.boundary_mm : null;
    const count = points(item).length;
    const { added, removed } = history(item).now;
    return {
      ...own, count, model_count: answer.count, nerve_threshold: threshold(item),
      corrected: edited(item) ? "yes" : "no", added: added.length, removed: removed.length,
      boundary_px: Math.round(answer.boundary_px), boundary_mm: mm,
      density_per_mm: mm && !isBare(answer) ? count / mm : null, bare: isBare(answer),
      um_per_px: umPerPx, width: answer.width, height: answer.height,
      warnings: warnings(item).join("; "), bundle: answer.bundle, note: answer.note,
    };
  }

  const rounded = (values) => ({ ...values, boundary_mm: worth(values.boundary_mm), density_per_mm: worth(values.density_per_mm) });

  function cells(item) {
    const values = row(item);
    return [
      values.subject || "–", values.count ?? "–", values.model_count ?? "–", plain(values.boundary_mm),
      plain(values.density_per_mm), values.um_per_px ?? "–",
    ];
  }

  function stateOf(item) {
    if (!item.answer) return null;
    const said = warnings(item).length;
    return [
      edited(item) ? "Corrected" : "Counted", review.of(item).reviewed && "reviewed",
      said && `${said} warning${said === 1 ? "" : "s"}`,
    ].filter(Boolean).join(", ");
  }

  // --- figures of the selected image ------------------------------------------------------

  function showFigures(item) {
    const answer = item?.answer;
    const values = answer ? row(item) : {};
    $("count").firstElementChild.textContent = answer ? values.count : "–";
    $("count").lastElementChild.textContent = values.count === 1 ? "crossing" : "crossings";
    $("model-count").textContent = answer ? `${values.model_count}` : "–";
    const mm = values.boundary_mm;
    $("length").textContent = answer ? (mm ? `${plain(mm)} mm` : `${values.boundary_px} px`) : "–";
    $("density").textContent = Number.isFinite(values.density_per_mm) ? `${plain(values.density_per_mm)} per mm` : "–";
    const { added, removed } = item ? history(item).now : edit.none;
    $("edits").textContent = added.length + removed.length ? `${added.length} added, ${removed.length} removed` : "No corrections";
    $("edits").classList.toggle("some", added.length + removed.length > 0);
    $("undo").disabled = !item || !history(item).past.length;
    $("redo").disabled = !item || !history(item).future.length;
    $("reset").disabled = !item || !edited(item);
    for (const id of ["geojson", "png"]) $(id).disabled = !answer;
    $("error").textContent = errorText(page.bundle);
    $("warnings").replaceChildren(...(item?.answer?.warnings ?? []).map(listed));
    $("warnings").hidden = !item?.answer?.warnings?.length;
    form.show(item);
    reviews.show(item);
    showScale(item);
    means.show();
    return answer ? `${values.count} crossings` : "";
  }

  /** The counting error of the bundle, crossings per image. */
  function errorText(bundle) {
    const limits = bundle?.limits_of_agreement;
    if (!limits) return "Counting error not known";
    const [low, high] = limits.map((value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`);
    return `Counting error of the model: ${low} to ${high} crossings (95 % limits of agreement)`;
  }

  function listed(text) {
    const line = document.createElement("li");
    line.textContent = text.charAt(0).toUpperCase() + text.slice(1);
    return line;
  }

  // --- the scale ----------------------------------------------------------------------------

  const inUse = (item) => item?.umPerPx ?? item?.answer?.um_per_px ?? null;
  let filled = null;

  function showScale(item) {
    const input = $("scale");
    if (item !== filled || document.activeElement !== input) input.value = item?.scaleTyped ?? inUse(item) ?? "";
    filled = item;
    noteScale(item, item?.scaleProblem ?? "", inUse(item));
    $("scale-all").disabled = !inUse(item) || Boolean(item.scaleProblem) || page.items.length < 2;
    page.viewer.setScale(item ? scale.applied(item) : null);
  }

  function noteScale(item, problem, value) {
    const far = problem ? "" : scale.judge(value, page.bundle?.um_per_px);
    const source = item?.umPerPx ? "As entered." : "From the file.";
    $("scale").setAttribute("aria-invalid", String(Boolean(problem)));
    $("scale-note").classList.toggle("bad", Boolean(problem || far));
    $("scale-note").textContent = problem || far || (value ? source : "Unknown: lengths are in pixels.");
  }

  $("scale").addEventListener("input", () => {
    const { value, problem } = scale.read($("scale").value);
    noteScale({ umPerPx: value }, problem, value);
  });
  $("scale").addEventListener("change", () => {
    if (scale.enter(page.current, $("scale").value)) page.queue.push(page.current);
    else page.changed();
  });
  $("scale-all").addEventListener("click", () => {
    const value = inUse(page.current);
    for (const item of page.items.filter((one) => one.scaleProblem || inUse(one) !== value)) {
      if (scale.enter(item, String(value))) page.queue.push(item);
    }
    page.changed();
  });

  // --- corrections ----------------------------------------------------------------------------

  function change(edits, words) {
    page.current.history = edits;
    page.current.saved = null;
    review.touch(page.current);
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

  // --- downloads ----------------------------------------------------------------------

  /** The lines under the picture: what it shows, counted by what. */
  function caption(item) {
    const values = row(item);
    const crossings = `${values.count} crossing${values.count === 1 ? "" : "s"}`;
    const how = edited(item) ? `, corrected: ${values.added} added, ${values.removed} removed, ${values.model_count} by the model` : "";
    const density = Number.isFinite(values.density_per_mm) ? ` · ${plain(values.density_per_mm)} per mm` : "";
    const { brightness, contrast } = page.viewer.light;
    return [
      item.name,
      `${crossings}${how}${density} · ${values.um_per_px ? `${values.um_per_px} µm per pixel` : "scale unknown"}`,
      [
        values.subject && `subject ${values.subject}`, values.reviewed === "yes" && `reviewed${values.reader ? ` by ${values.reader}` : ""}`,
        errorText(page.bundle), page.bundle?.synthetic && "model trained on drawn images, not on real biopsies", values.note,
        (brightness || contrast) && `brightness ${brightness}, contrast ${contrast}`,
        `model ${values.bundle.slice(0, 8)}`, "for research use only",
      ].filter(Boolean).join(" · "),
      ...warnings(item),
    ];
  }

  $("png").addEventListener("click", () => page.download($("png"), async (item) => {
    const blob = await new Promise((done) => page.viewer.picture(caption(item)).toBlob(done, "image/png"));
    if (!blob) throw new Error("This image is too large for a picture by the browser: use overlays/ of skinray score.");
    files.save(`${files.stem(item.name)}-overlay.png`, blob, "image/png");
  }));
  $("geojson").addEventListener("click", () => page.download($("geojson"), async (item, waiting) => {
    item.answer.geojson ??= await service.geojson(item.file, item.answer.asked, waiting);
    const text = JSON.stringify(files.corrected(item.answer.geojson, points(item)), null, 1);
    files.save(`${files.stem(item.name)}.geojson`, text, "application/geo+json");
    keep(item);
  }));

  // --- the form -----------------------------------------------------------------------------------

  const form = labelForm(page, { points, keep, history });
  const reviews = review.connect(page);
  const means = subjects.connect(page, row);

  return {
    ask, cells, marks, showFigures, pick, step, undo, redo,
    row: (item) => rounded(row(item)),
    mark: reviews.toggle,
    title: "skinray: nerve crossings in skin biopsies",
    image: "Biopsy",
    words: { waiting: "Waiting", running: "Counting…", done: "Counted", failed: "Failed" },
    done: "counted",
    texts: 1,
    reviewed: (item) => review.of(item).reviewed,
    /** What would be lost with an image, in words. */
    unsaved: (item) => [!isStored(item) && "corrections", !review.isKept(item) && "review"].filter(Boolean),
    tableSaved: () => page.items.forEach(review.keep),
    state: stateOf,
    cursor: (place, reach) => (page.shown && edit.nearest(marks(page.current).map((mark) => mark.place), place, reach) >= 0 ? "pointer" : "crosshair"),
    moved: (item) => { item.saved = null; },
    values: ["nerve", "boundary"],
    level: (value) => 255 * value,
    layers: [
      { name: "boundary", values: "boundary", level: 127, paint: tint(BOUNDARY), thin: true },
      { name: "nerves", values: "nerve", paint: outline(NERVE) },
    ],
    table: "skinray-counts.csv",
    columns: [
      "image", "subject", "status", "error", "count", "model_count", "corrected", "added", "removed", "reviewed", "reader",
      "reader_note", "nerve_threshold", "um_per_px", "boundary_px", "boundary_mm", "density_per_mm", "warnings", "width",
      "height", "bundle", "note",
    ],
  };
}
