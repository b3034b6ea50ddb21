// From files to answers: a few at a time, each with a state of its own, none lost when a service goes away.

import { Failure, info, locate } from "./api.js";
import { announce } from "./dom.js";
import { readGps } from "./exif.js";
import { changed, select, state } from "./store.js";
import { bytes, km, percent, radii } from "./words.js";

const AT_ONCE = 3;
const SHRUNK_PX = 2048;
const MOST = 200; // images on the page
let limits = { max_image_bytes: 20 * 1024 * 1024, max_image_pixels: 50_000_000 };
let asking = 0;
let number = 0;

export async function readLimits() {
  limits = await info();
  return limits;
}

/** Takes files in. One that is here already is selected instead of asked about again, so that a double click asks once. */
export function add(files, { truth = null } = {}) {
  let first = null;
  const refused = [];
  for (const file of files) {
    const key = `${file.name}:${file.size}:${file.lastModified}`;
    const here = state.items.find((item) => item.key === key);
    if (!here && state.items.length >= MOST) {
      refused.push(file.name);
      continue;
    }
    const item = here ?? take(file, key, truth);
    first ??= item;
  }
  if (first) select(first.id);
  changed("items");
  pump();
  return refused.length ? `This page holds ${MOST} images; ${refused.length} were left out. Start again for more.` : "";
}

function take(file, key, truth) {
  const item = {
    id: ++number, key, name: file.name || "pasted image", file, url: URL.createObjectURL(file), state: "waiting",
    answer: null, failure: null, exif: null, truth, notice: "", since: performance.now(),
  };
  state.items.push(item);
  readGps(file).then((place) => {
    item.exif = place;
    if (place) changed("exif");
  });
  return item;
}

/** Asks again about everything that could succeed now. */
export function retry() {
  for (const item of state.items) {
    if (item.state === "failed" && item.failure.retry) Object.assign(item, { state: "waiting", failure: null });
  }
  changed("items");
  pump();
}

/** Asks once more about an image that has an answer, such as one that was made without a search. */
export function again(item) {
  if (item.state !== "done") return;
  Object.assign(item, { state: "waiting", answer: null, since: performance.now() });
  changed("items");
  pump();
}

function pump() {
  while (asking < AT_ONCE) {
    const item = state.items.find((each) => each.state === "waiting");
    if (!item) return;
    asking += 1;
    item.state = "asking";
    changed("items");
    answer(item).finally(() => {
      asking -= 1;
      pump();
    });
  }
}

async function answer(item) {
  try {
    item.answer = await locate(await fitting(item));
    item.state = "done";
    announce(`${item.name}: ${spoken(item.answer)}`);
  } catch (error) {
    const failure = error instanceof Failure ? error : new Failure(`The page itself failed: ${error.message}`);
    Object.assign(item, { state: "failed", failure });
    announce(`${item.name}: ${failure.message}`);
  }
  if (item.state === "done") performance.measure("geofix:answer", { start: item.since, detail: item.name });
  changed(item.id === state.selected ? "selection" : "items");
}

/** The file, or where it is over the server's limit a smaller copy made here: the model looks at a few hundred pixels. */
async function fitting(item) {
  const { file } = item;
  if (!file.size) throw new Failure("The file is empty.");
  if (file.size <= limits.max_image_bytes) return file;
  const over = `It has ${bytes(file.size)}, over this server's limit of ${bytes(limits.max_image_bytes)}`;
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Failure(`${over}, and this browser cannot read it to make a smaller copy. Send a JPEG, PNG or WebP.`);
  });
  const scale = Math.min(1, SHRUNK_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  item.notice = `${over}, so a copy of ${canvas.width} × ${canvas.height} pixels was sent in its place.`;
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}

function spoken(answer) {
  if (!answer.localizable) return "cannot be located.";
  if (answer.degraded) return `${answer.place}, a rough answer: similar images could not be looked for.`;
  const [wide] = radii(answer);
  return `${answer.place}. ${wide ? `${percent(wide.probability)} sure within ${km(wide.radius_m / 1000)}.` : "How sure that is, is not known."}`;
}
