// Means per subject, named as in subjects.csv of a scored cohort's report.

import * as files from "../downloads.js";
import { number, plain, worth } from "../table.js";

const COLUMNS = [
  "subject", "images", "scored", "failed", "reviewed", "crossings", "mean_count", "boundary_mm", "mean_density",
  "pooled_density",
];

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => (values.length ? sum(values) / values.length : null);
const known = (value) => value !== null && value !== undefined;

/** Rows of the table of images, together by subject; rows without a subject are left out. */
export function means(rows) {
  const groups = new Map();
  for (const row of rows.filter((one) => one.subject)) groups.set(row.subject, [...(groups.get(row.subject) ?? []), row]);
  return [...groups].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true })).map(([subject, all]) => {
    // Without a boundary there is nothing that a nerve could cross.
    const scored = all.filter((row) => known(row.count));
    const counted = scored.filter((row) => !row.bare);
    const scaled = counted.filter((row) => known(row.density_per_mm));
    const boundary = sum(scaled.map((row) => row.boundary_mm));
    return {
      subject,
      images: all.length,
      scored: scored.length,
      failed: all.filter((row) => row.status === "failed").length,
      reviewed: all.filter((row) => row.reviewed === "yes").length,
      crossings: sum(counted.map((row) => row.count)),
      mean_count: mean(counted.map((row) => row.count)),
      boundary_mm: boundary || null,
      mean_density: mean(scaled.map((row) => row.count / row.boundary_mm)),
      pooled_density: boundary ? sum(scaled.map((row) => row.count)) / boundary : null,
    };
  });
}

const FIGURES = ["mean_count", "boundary_mm", "mean_density", "pooled_density"];

/** Let the page show and download the means; `row(item)` gives the table's values for an image. */
export function connect(page, row) {
  const { $ } = page;
  const found = () => means(page.items.map(row));

  function show() {
    const rows = page.items.map(row);
    const all = means(rows);
    const without = rows.filter((one) => !one.subject).length;
    $("subjects").hidden = !all.length;
    $("subjects-title").textContent = `Means per subject (${all.length})`;
    $("subjects-note").textContent = without ? `Images without a subject are left out: ${without}.` : "";
    $("subject-rows").replaceChildren(...all.map(line));
  }

  function line(one) {
    const tr = document.createElement("tr");
    const texts = [
      one.subject, `${one.scored} of ${one.images}`, one.reviewed, number(one.mean_count, 1), plain(one.mean_density),
      plain(one.pooled_density),
    ];
    tr.append(...texts.map((textContent, index) => {
      const cell = Object.assign(document.createElement(index ? "td" : "th"), { textContent });
      if (index) cell.className = "num";
      else cell.scope = "row";
      return cell;
    }));
    return tr;
  }

  $("subjects-csv").addEventListener("click", () => {
    const rows = found().map((one) => ({ ...one, ...Object.fromEntries(FIGURES.map((name) => [name, worth(one[name])])) }));
    files.save("skinray-subjects.csv", files.csv(COLUMNS, rows), "text/csv");
  });

  return { show };
}
