// Saving a corrected count as a label for training.

import { threshold } from "../items.js";
import * as service from "../service.js";
import * as review from "./review.js";
import * as scale from "./scale.js";

const WHAT = "Stores image and masks for training; replaces an earlier label of this image.";

/** A file's name as the service takes it: printable, of at most 100 letters, and no formula of a spreadsheet. */
export function plainName(name) {
  const printable = name.replace(/[^\P{Z} ]|\p{C}/gu, " ").trim();
  return (/^[=+\-@＝＋－＠]/.test(printable) ? `'${printable}` : printable).slice(0, 100).trim();
}

/** The button and its note; `points`, `keep` and `history` are those of the biopsies' corrections. */
export function labelForm(page, { points, keep, history }) {
  const { $ } = page;
  let canSave = false;
  let why = "";

  function note(text, look = "") {
    $("label-note").className = `quiet ${look}`;
    if ($("label-note").textContent !== text) $("label-note").textContent = text;
  }

  function show(item) {
    $("save").disabled = !canSave || item?.status !== "done" || Boolean(item.saving || item.scaleProblem);
    if (item?.saving) note(item.saving);
    else if (canSave) note(item?.saved?.text ?? WHAT, item?.saved?.look);
    else note(why);
  }

  $("label-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const item = page.current;
    if ($("save").disabled) return;
    const edits = history(item).now;
    const say = (text) => {
      item.saving = text;
      if (item === page.current) show(item);
    };
    say("Saving…");
    try {
      const { subject, reader } = review.of(item);
      const stored = await service.saveLabel(item.file, {
        um_per_px: scale.applied(item), nerve_threshold: threshold(item), points: JSON.stringify(points(item)),
        subject, reader: reader || review.reader(), original_name: plainName(item.name),
      }, say);
      const all = `${stored.images} labelled image${stored.images === 1 ? "" : "s"} in all.`;
      item.saved = { text: `${stored.replaced ? "Replaced" : "Saved"}: ${stored.count} crossings; ${all}`, look: "good" };
      keep(item, edits);
    } catch (error) {
      item.saved = { text: error.message, look: "bad" };
    }
    item.saving = "";
    if (item === page.current) show(item);
  });

  service.labels().then(({ enabled, reason }) => {
    canSave = enabled;
    why = reason ?? "This service stores no labels: it was started without --labels FOLDER. Download your corrections as GeoJSON before it is restarted.";
    show(page.current);
  });

  return { show };
}
