// Micrometres per pixel as people type them, and which figures in millimetres follow.

// What the service accepts: skinray/images/pixel_size.py.
const [LEAST, MOST] = [0.01, 20];
const FAR = 2; // times the scale of the training, up or down, where counts can no longer be trusted

/** Read a scale as typed: {value, problem}. A decimal comma is a decimal comma; an empty text is no scale. */
export function read(text) {
  const typed = text.trim();
  if (!typed) return { value: null, problem: "" };
  const none = (why) => ({ value: null, problem: `${why}. Give a number from ${LEAST} to ${MOST}, such as 0.5 or 0,5, or empty the field.` });
  if (!/^(\d+([.,]\d+)?|[.,]\d+)$/.test(typed)) return none(`“${typed}” is not a scale`);
  const value = Number(typed.replace(",", "."));
  if (value < LEAST || value > MOST) return none(`${typed} µm per pixel is not the scale of a microscope`);
  return { value, problem: "" };
}

/** What to say of a scale far from that of the training, which may be unknown; "" if nothing. */
export function judge(umPerPx, trained) {
  if (!umPerPx || !trained || (umPerPx <= FAR * trained && umPerPx >= trained / FAR)) return "";
  const side = umPerPx > trained ? "More than twice" : "Less than half";
  return `${side} the ${trained} µm per pixel of the training: check the scale, as the count may be wrong.`;
}

/** Take over what the user typed for an image; returns whether the service must count again. */
export function enter(item, text) {
  const { value, problem } = read(text);
  const again = !problem && value !== (item.umPerPx ?? null);
  item.scaleTyped = problem ? text : null;
  item.scaleProblem = problem;
  if (!problem) item.umPerPx = value;
  if (again) item.saved = null; // the label has the former scale
  return again;
}

/**
 * The scale of the figures shown; null: unknown, refused, or not yet applied by the service.
 * `umPerPx` of an image is what the user entered, `asked` of its answer what the service was given.
 */
export const applied = (item) =>
  item.answer && !item.scaleProblem && item.answer.asked === (item.umPerPx ?? null) ? item.answer.um_per_px : null;
