// Requests to the service. Addresses are relative, so the page works behind any proxy prefix.

import { authorised } from "./token.js";

const TRIES = 8;
const LONGEST_WAIT_S = 20;

/** An error response: title and detail of the service's problem report (RFC 9457). */
export class Refusal extends Error {
  constructor(title, detail, status = 0) {
    super(detail);
    this.title = title;
    this.status = status;
  }
}

/** The count of a biopsy, with its pictures as blobs. */
export async function count(file, umPerPx, signal, waiting) {
  const address = "v1/biopsies?include=maps,image,boundary,sweep";
  return withBlobs(await send(address, form(file, umPerPx), signal, waiting));
}

/** The skin of a photograph, with its pictures as blobs. */
export async function findSkin(file, signal, waiting) {
  return withBlobs(await send("v1/photos?include=maps,image,sweep", form(file), signal, waiting));
}

/** The mask or the cut-out of a photograph at a threshold, as a PNG blob. */
export async function picture(file, what, threshold) {
  const address = `v1/photos?as=${what}&threshold=${threshold}`;
  return (await send(address, form(file), undefined, () => {}, { Accept: "image/png" })).blob();
}

/** Crossings and boundary as GeoJSON for QuPath. */
export async function geojson(file, umPerPx) {
  const headers = { Accept: "application/geo+json" };
  return (await send("v1/biopsies", form(file, umPerPx), undefined, () => {}, headers)).json();
}

export async function saveLabel(file, umPerPx, threshold, points, subject) {
  const body = form(file, umPerPx);
  body.append("nerve_threshold", String(threshold));
  body.append("points", JSON.stringify(points));
  if (subject) body.append("subject", subject);
  return (await send("v1/labels", body)).json();
}

/** Whether the service stores labels: {enabled, images}. */
export async function labels() {
  try {
    const response = await authorised("v1/labels", { headers: { Accept: "application/json" } });
    return response.ok ? await response.json() : { enabled: false, images: 0 };
  } catch {
    return { enabled: false, images: 0 };
  }
}

function form(file, umPerPx) {
  const body = new FormData();
  body.append("image", file, file.name);
  if (umPerPx) body.append("um_per_px", String(umPerPx));
  return body;
}

async function send(address, body, signal, waiting = () => {}, headers = { Accept: "application/json" }) {
  for (let turn = 1; ; turn += 1) {
    let response;
    try {
      response = await authorised(address, { method: "POST", body, headers, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("No answer", "The service cannot be reached. Check that it is running, then try again.");
    }
    if (response.ok) return response;
    const busy = response.status === 429 || response.status === 503;
    if (!busy || turn === TRIES) throw await refusal(response);
    waiting();
    const wanted = Number(response.headers.get("Retry-After")) || 1;
    await pause(Math.min(wanted, LONGEST_WAIT_S) * 1000, signal);
  }
}

async function refusal(response) {
  try {
    const problem = await response.json();
    const detail = typeof problem.detail === "string" ? problem.detail : "";
    return new Refusal(problem.title ?? `Refused (${response.status})`, detail, response.status);
  } catch {
    return new Refusal(`Refused (${response.status})`, response.statusText || "No reason given", response.status);
  }
}

const pause = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(new DOMException("aborted", "AbortError"));
  });
});

/** Turn the pictures of an answer into blobs: strings would need twice the memory. */
async function withBlobs(response) {
  const answer = await response.json();
  const found = {};
  for (const name of ["image", "nerve", "dermis", "boundary", "skin"]) {
    const text = answer[`${name}_png`];
    if (!text) continue;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    found[name] = new Blob([bytes], { type: "image/png" });
    delete answer[`${name}_png`];
  }
  return { ...answer, blobs: found };
}
