// Files for a person to keep: the table, the crossings for QuPath, the picture.

import { CROSSING } from "./layers.js";

/** A table of rows, by the names of its columns, as CSV (RFC 4180). */
export function csv(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would run a text that begins so.
  const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The service's GeoJSON of an image, its crossings replaced by the corrected ones. */
export function corrected(collection, points) {
  const place = (value) => Math.round((value + 0.5) * 1000) / 1000; // QuPath: corner of the pixel is 0, 0
  const crossings = points.map(([row, column], index) => ({
    type: "Feature",
    geometry: { type: "Point", coordinates: [place(column), place(row)] },
    properties: {
      objectType: "annotation",
      name: `Crossing ${index + 1}`,
      classification: { name: "Crossing", color: CROSSING },
    },
  }));
  const others = collection.features.filter((one) => one.properties?.classification?.name !== "Crossing");
  return { ...collection, features: [...crossings, ...others] };
}

export function save(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const stem = (name) => name.replace(/(\.ome)?\.[^.]*$/i, "") || name;
