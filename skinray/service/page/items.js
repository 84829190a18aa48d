// One image of the list: its file, its answer, and the chosen threshold.

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

/** Store an answer, whose sweep has the result at each threshold; the chosen threshold is kept. */
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

/** The result at the chosen threshold. */
export const now = (item) => item.answer.sweep[item.step];
export const threshold = (item) => now(item).threshold;

/** The columns that every table has for an image. */
export const state = (item) => ({
  image: item.name,
  status: item.status === "done" ? "ok" : item.status,
  error: item.error?.message ?? "",
});
