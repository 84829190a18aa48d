// One image of the list: its file, its answer, the threshold chosen and the corrections.

import { apply, counted, fresh } from "./corrections.js";

let last = 0;

export function newItem(file) {
  last += 1;
  return {
    id: last,
    file,
    name: file.name || `image ${last}`,
    status: "waiting", // waiting, running, done or failed
    note: "",
    error: null,
    answer: null,
    umPerPx: null, // as a person entered it; null: as the file states
    step: null, // index into the sweep
    history: fresh(),
    saved: null,
  };
}

/** Take in an answer; corrections and the threshold of an earlier one are kept. */
export function setAnswer(item, answer) {
  const before = item.answer && item.answer.sweep[item.step]?.nerve_threshold;
  const own = answer.nerve_threshold;
  if (!answer.sweep.some((one) => one.nerve_threshold === own)) {
    answer.sweep.push({ nerve_threshold: own, count: answer.count, points: answer.points });
  }
  answer.sweep.sort((a, b) => a.nerve_threshold - b.nerve_threshold);
  item.answer = answer;
  item.modelStep = answer.sweep.findIndex((one) => one.nerve_threshold === own);
  const same = answer.sweep.findIndex((one) => one.nerve_threshold === before);
  item.step = same >= 0 ? same : item.modelStep;
  item.status = "done";
  item.error = null;
}

export const threshold = (item) => item.answer.sweep[item.step].nerve_threshold;
export const marks = (item) => apply(item.answer.sweep[item.step].points, item.history.now);
export const points = (item) => counted(marks(item)).map((mark) => mark.place);
export const edited = ({ history }) => history.now.added.length + history.now.removed.length > 0;

/** What the table says of an image, in the names of a scored cohort's counts. */
export function row(item) {
  const { answer } = item;
  if (!answer) return { image: item.name, status: item.status, error: item.error?.message ?? "", um_per_px: item.umPerPx };
  const umPerPx = item.umPerPx ?? answer.um_per_px;
  const mm = umPerPx ? (answer.boundary_px * umPerPx) / 1000 : null;
  const count = points(item).length;
  const { added, removed } = item.history.now;
  return {
    image: item.name,
    status: item.status === "done" ? "ok" : item.status,
    error: item.error?.message ?? "",
    count,
    model_count: answer.count,
    nerve_threshold: threshold(item),
    added: added.length,
    removed: removed.length,
    boundary_px: answer.boundary_px,
    boundary_mm: mm,
    density_per_mm: mm ? count / mm : null,
    um_per_px: umPerPx,
    width: answer.width,
    height: answer.height,
    bundle: answer.bundle,
  };
}
