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
  return withBlobs(await post(address, form(file, { um_per_px: umPerPx }), { signal, waiting }));
}

/** The skin of a photograph, with its pictures as blobs. */
export async function findSkin(file, signal, waiting) {
  return withBlobs(await post("v1/photos?include=maps,image,sweep", form(file), { signal, waiting }));
}

/** The mask or the cut-out of a photograph at a threshold, as a PNG blob. */
export async function picture(file, what, threshold, waiting) {
  const address = `v1/photos?as=${what}&threshold=${threshold}`;
  return (await post(address, form(file), { accept: "image/png", waiting })).blob();
}

/** Crossings and boundary as GeoJSON for QuPath. */
export async function geojson(file, umPerPx, waiting) {
  return (await post("v1/biopsies", form(file, { um_per_px: umPerPx }), { accept: "application/geo+json", waiting })).json();
}

/** Store a label; `fields` are those of the form besides the image. */
export async function saveLabel(file, fields, waiting) {
  return (await post("v1/labels", form(file, fields), { waiting })).json();
}

/** The bundle in service; null if the service does not say. */
export async function bundle() {
  try {
    return await (await get("v1/bundle")).json();
  } catch {
    return null;
  }
}

/** Whether the service stores labels: {enabled, images}, or else the reason why not. */
export async function labels() {
  try {
    return await (await get("v1/labels")).json();
  } catch (error) {
    return { enabled: false, images: 0, reason: error.message };
  }
}

/** The image and every field that has a value. */
function form(file, fields = {}) {
  const body = new FormData();
  body.append("image", file, file.name);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== "") body.append(name, String(value));
  }
  return body;
}

const get = (address) => send(address, {});
const post = (address, body, more) => send(address, { method: "POST", body, ...more });

/** Send a request, again and again while the service is busy; `waiting(words)` hears of each pause. */
async function send(address, { method = "GET", body, signal, waiting = () => {}, accept = "application/json" }) {
  for (let turn = 1; ; turn += 1) {
    let response;
    try {
      response = await authorised(address, { method, body, headers: { Accept: accept }, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("No answer", "The service cannot be reached. Check that it is running, then try again.");
    }
    if (response.ok) return response;
    const busy = response.status === 429 || response.status === 503;
    if (!busy || turn === TRIES) throw await refusal(response);
    const wait = waitOf(response);
    waiting(`Service busy: try ${turn + 1} of ${TRIES} in ${wait} s…`);
    await pause(wait * 1000, signal);
  }
}

/** Seconds to wait as the service asks, in seconds or as a date. */
function waitOf(response) {
  const text = response.headers.get("Retry-After");
  const wanted = Number(text) || Math.ceil((Date.parse(text) - Date.now()) / 1000) || 1;
  return Math.min(Math.max(wanted, 1), LONGEST_WAIT_S);
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
