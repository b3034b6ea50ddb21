// The answer in words: where, how sure, and what the file says.

import { h, byId, announce } from "./dom.js";
import { distanceColour, inkOn } from "./colours.js";
import { distanceKm } from "./geo.js";
import { alternativesBlock, evidenceBlock, drawEvidenceLit } from "./evidence.js";
import { exportBlock } from "./exports.js";
import { again, retry } from "./queue.js";
import { offBy, selected, state } from "./store.js";
import { detailsBlock } from "./details.js";
import { truthBlock } from "./truth.js";
import { coordinates, km, method, radii, sureness } from "./words.js";

/** Draws the panel for the selected image. */
export function drawPanel() {
  const item = selected();
  const box = byId("answer");
  box.hidden = !item;
  document.body.classList.toggle("has-answer", Boolean(item));
  if (!item) return;
  const blocks = [head(item)];
  if (item.state === "failed") blocks.push(failed(item));
  else if (item.answer) blocks.push(...answered(item));
  else blocks.push(h("div", { class: "sure" }, h("strong", {}, "Looking…"), h("p", {}, "The answer usually takes less than a second.")));
  box.replaceChildren(...blocks.filter(Boolean));
}

export { drawEvidenceLit };

function head(item) {
  const { answer } = item;
  const located = answer?.localizable;
  const title = located ? upper(answer.place) : answer ? "Cannot be located" : item.name;
  const picture = item.url && h("img", { src: item.url, alt: `Your image ${item.name}`, onerror: (event) => event.target.remove() });
  const copy = () => {
    navigator.clipboard.writeText(`${answer.lat.toFixed(5)}, ${answer.lon.toFixed(5)}`).then(() => announce("Coordinates copied"));
  };
  return h("div", { class: "head" }, picture ?? h("span"),
    h("div", {},
      answer && h("p", { class: "file" }, item.name),
      h("h1", { id: "place" }, title),
      located && h("p", { class: "coordinates" }, coordinates(answer), h("button", { class: "copy", type: "button", onclick: copy }, "Copy")),
      state.comparing && item.truth && answer && offChip(item)));
}

function offChip(item) {
  const off = offBy(item);
  const colour = distanceColour(off);
  return h("p", {}, h("span", { class: "chip", id: "off", style: { background: colour, color: inkOn(colour) } }, `off by ${km(off)}`));
}

function failed(item) {
  return h("div", { class: "sure unsure" }, h("strong", {}, item.failure.service ? "No answer yet" : "This image was not answered"),
    h("p", { id: "failure" }, item.failure.message),
    item.failure.retry && h("p", {}, h("button", { class: "button", type: "button", onclick: retry }, "Try again")));
}

function answered(item) {
  const { answer } = item;
  return [
    answer.localizable ? sure(answer) : unsure(answer),
    answer.degraded && degraded(item),
    item.notice && h("p", { class: "note", id: "notice" }, item.notice),
    exifNote(item),
    truthBlock(item),
    alternativesBlock(answer),
    evidenceBlock(item),
    exportBlock(item),
    detailsBlock(answer),
  ];
}

function sure(answer) {
  const [wide, ...rest] = radii(answer);
  if (!wide) {
    return h("div", { class: "sure unsure" }, h("strong", {}, "How sure that is, is not known"),
      h("p", {}, answer.degraded ? "" : "No radius was fitted for this model and gallery. ", method(answer)));
  }
  return h("div", { class: "sure" }, h("strong", { id: "sure" }, sureness(wide)),
    rest.map((radius) => h("p", {}, `${sureness(radius)}.`)), h("p", {}, method(answer)));
}

function degraded(item) {
  return h("p", { class: "note", id: "degraded" },
    "The search for similar images does not answer, so this is a rough answer from the cells alone, without a radius. ",
    h("button", { class: "copy", type: "button", onclick: () => again(item) }, "Ask again"),
    h("small", {}, item.answer.degraded_message));
}

function unsure(answer) {
  return h("div", {},
    h("div", { class: "sure unsure" }, h("strong", {}, "The model cannot tell where this is"),
      h("p", {}, "Nothing that it knows is alike enough to say how far off a guess may be, so there is no radius. Its model card says what it knows.")),
    h("p", { class: "guess" }, `Best guess, not to be relied on: ${answer.place} (${coordinates(answer)}), shown in grey.`));
}

function exifNote({ exif, answer }) {
  if (!exif) return null;
  return h("p", { class: "note", id: "exif" }, `The file itself says ${coordinates(exif)}: ${km(distanceKm(exif, answer))} from the estimate.`,
    h("small", {}, "From its EXIF data, read in this browser. It was not used for the answer."));
}

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);
