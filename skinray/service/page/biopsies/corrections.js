// Corrections of a model's crossings, and the crossings that result. Pure: does not touch the page.
// A place is [row, column] in pixels of the image; whole numbers are pixel centres.

export const NEAR_PX = 8; // the same crossing at two thresholds moves no further than this

export const none = Object.freeze({ added: Object.freeze([]), removed: Object.freeze([]) });

const gap = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Index of the place nearest to `at` within `reach`, or -1. */
export function nearest(places, at, reach) {
  let best = -1;
  let least = reach;
  places.forEach((place, index) => {
    const far = gap(place, at);
    if (far <= least) { best = index; least = far; }
  });
  return best;
}

/** The crossings at one threshold as [{place, kind}]; kind: model, added or removed. */
export function apply(base, edits) {
  const marks = base.map((place) => ({ place, kind: "model" }));
  for (const gone of edits.removed) {
    const left = marks.map((mark) => (mark.kind === "model" ? mark.place : [Infinity, Infinity]));
    const index = nearest(left, gone, NEAR_PX);
    if (index >= 0) marks[index].kind = "removed";
  }
  const kept = marks.filter((mark) => mark.kind === "model").map((mark) => mark.place);
  const separate = edits.added.filter((place) => nearest(kept, place, NEAR_PX / 2) < 0);
  return [...marks, ...separate.map((place) => ({ place, kind: "added" }))];
}

export const counted = (marks) => marks.filter((mark) => mark.kind !== "removed");

/** Remove the crossing within `reach` of a place, or restore a removed one; null: none there. */
export function toggle(edits, marks, at, reach) {
  const index = nearest(marks.map((mark) => mark.place), at, reach);
  if (index < 0) return null;
  const { place, kind } = marks[index];
  const others = (list) => list.filter((one) => gap(one, place) > NEAR_PX);
  if (kind === "added") return { ...edits, added: edits.added.filter((one) => one !== place) };
  if (kind === "removed") return { ...edits, removed: others(edits.removed) };
  // An added crossing that the model found as well would reappear in its place.
  const added = edits.added.filter((one) => gap(one, place) > NEAR_PX / 2);
  return { added, removed: [...edits.removed, place] };
}

export const add = (edits, place) => ({ ...edits, added: [...edits.added, place] });

/** Edits with their past and future; every change returns a new history. */
export const fresh = () => ({ now: none, past: [], future: [] });
export const change = (history, edits) => ({ now: edits, past: [...history.past, history.now], future: [] });
export const undo = ({ now, past, future }) =>
  past.length ? { now: past.at(-1), past: past.slice(0, -1), future: [now, ...future] } : { now, past, future };
export const redo = ({ now, past, future }) =>
  future.length ? { now: future[0], past: [...past, now], future: future.slice(1) } : { now, past, future };
