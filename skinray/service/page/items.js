// One image of the list: its file, its answer, and the threshold chosen.

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
    step: null, // index into the sweep
  };
}

/** Take in an answer, whose sweep holds what was found at each threshold; the one chosen is kept. */
export function setAnswer(item, answer) {
  const before = item.answer && threshold(item);
  const at = (value) => answer.sweep.findIndex((one) => one.threshold === value);
  if (at(answer.own.threshold) < 0) answer.sweep.push(answer.own);
  answer.sweep.sort((a, b) => a.threshold - b.threshold);
  item.answer = answer;
  item.modelStep = at(answer.own.threshold);
  item.step = at(before) >= 0 ? at(before) : item.modelStep;
  item.status = "done";
  item.error = null;
}

/** What was found at the threshold chosen. */
export const now = (item) => item.answer.sweep[item.step];
export const threshold = (item) => now(item).threshold;

/** What every table says of an image. */
export const state = (item) => ({
  image: item.name,
  status: item.status === "done" ? "ok" : item.status,
  error: item.error?.message ?? "",
});
