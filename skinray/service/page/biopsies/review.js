// What the reader says of an image: whose skin it is, who read it, a note, and whether it is reviewed.

const KEY = "skinray-reader";
const BLANK = Object.freeze({ subject: "", reader: "", note: "", reviewed: false });

/** The review of an image, to be changed in place. */
export const of = (item) => (item.review ??= { ...BLANK });

// A browser may forbid pages to store anything; then the name lasts as long as the page.
let name = "";
try { name = localStorage.getItem(KEY) ?? ""; } catch { /* forbidden */ }

/** Who sits in front of this browser, as last entered. */
export const reader = () => name;

export function remember(text) {
  name = text;
  try { localStorage.setItem(KEY, text); } catch { /* forbidden */ }
}

/** Note that the reader has worked on an image. */
export function touch(item) { if (name) of(item).reader = name; }

const text = (item) => JSON.stringify(item.review ?? BLANK);
/** Whether the table was downloaded since the last change. */
export const isKept = (item) => text(item) === (item.keptReview ?? JSON.stringify(BLANK));
export const keep = (item) => { item.keptReview = text(item); };

/** Let the fields of the form show the selected image and change it. */
export function connect(page) {
  const { $ } = page;
  let filled = null;
  const fields = { subject: $("subject"), reader: $("reader"), note: $("reader-note"), reviewed: $("reviewed") };

  for (const key of ["subject", "reader", "note"]) {
    fields[key].addEventListener("input", () => {
      const value = fields[key].value.trim();
      if (key === "reader") remember(value);
      of(page.current)[key] = value;
      if (key === "subject") page.current.saved = null; // the label has the former one
      if (key === "note") touch(page.current);
    });
    fields[key].addEventListener("change", () => page.changed());
  }
  fields.reviewed.addEventListener("change", () => mark(fields.reviewed.checked));

  function mark(reviewed) {
    of(page.current).reviewed = reviewed;
    touch(page.current);
    page.changed();
  }

  /** Mark the selected image as reviewed, or no longer so. */
  function toggle() {
    if (!page.current?.answer) return;
    mark(!of(page.current).reviewed);
    page.say(of(page.current).reviewed ? "Reviewed" : "No longer reviewed");
  }

  function show(item) {
    const own = item ? of(item) : BLANK;
    for (const [key, field] of Object.entries(fields)) {
      // Do not take away the blank that somebody is typing between two words.
      if (item === filled && field === document.activeElement && key !== "reviewed") continue;
      if (key === "reviewed") field.checked = own.reviewed;
      else field.value = key === "reader" ? own.reader || name : own[key];
    }
    filled = item;
    $("review-fields").disabled = !item?.answer;
    offer([...new Set(page.items.map((one) => of(one).subject).filter(Boolean))].sort());
  }

  /** Offer the subjects entered so far. */
  function offer(subjects) {
    $("subject-names").replaceChildren(...subjects.map((value) => Object.assign(document.createElement("option"), { value })));
  }

  return { show, toggle };
}
