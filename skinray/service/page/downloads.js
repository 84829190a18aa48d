// Files to download: the table, the crossings for QuPath, the picture.

import { CROSSING } from "./viewer/layers.js";

const BOM = "\ufeff"; // by which Excel knows UTF-8

/** Rows as CSV (RFC 4180), with the named columns. */
export function csv(columns, rows) {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return BOM + lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would execute such a text.
  const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The service's GeoJSON of an image, with the corrected crossings in place of its own. */
export function corrected(collection, points) {
  const place = (value) => Math.round((value + 0.5) * 1000) / 1000; // QuPath: 0, 0 is the corner of the pixel
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
