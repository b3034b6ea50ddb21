// The evidence: alternatives in their order, and the retrieved images in the colours of their dots.

import { h, byId } from "./dom.js";
import { neighborColour } from "./colours.js";
import { distanceKm } from "./geo.js";
import { frame, goTo } from "./map.js";
import { alternativesShown, light, selected, shownTruth, state } from "./store.js";
import { km, percent } from "./words.js";

export function alternativesBlock(answer) {
  if (!answer.alternatives.length) return null;
  const shown = alternativesShown(answer);
  const rest = answer.alternatives.length - shown.length;
  const rows = shown.map((place, index) =>
    h("li", {}, h("button", { type: "button", onclick: () => goTo(place), "aria-label": `Alternative ${index + 1}: ${place.place}, ${percent(place.weight)}; show on the map` },
      h("b", {}, String(index + 1)), h("span", {}, place.place, " ", h("small", {}, `${place.neighbors} ${place.neighbors === 1 ? "image" : "images"}`)),
      h("span", {}, percent(place.weight)), h("span", { class: "meter" }, h("i", { style: { width: `${100 * Math.min(1, place.weight)}%` } })))));
  return h("section", { class: "block alternatives" },
    h("header", {}, h("h2", {}, "Places that the evidence supports"), h("p", { class: "small" }, "weight")), h("ol", {}, rows),
    rest > 0 && h("p", { class: "small" }, `${rest} more with less than 1 % each.`));
}

export function evidenceBlock({ answer }) {
  if (!answer.neighbors.length) return null;
  const truth = shownTruth();
  const order = answer.neighbors.map((_, index) => index).sort((a, b) => cluster(answer, a) - cluster(answer, b) || a - b);
  return h("section", { class: "block evidence", id: "evidence" },
    h("header", {}, h("h2", {}, "The images that speak for it"),
      h("button", { class: "copy", type: "button", onclick: () => frame(true) }, "Show all on the map")),
    h("ul", {}, order.map((index) => h("li", {}, tile(answer.neighbors[index], index, answer, truth)))),
    h("div", { class: "about", id: "about" }, hint(truth)));
}

/** Position of a neighbour's cluster among the places that are numbered; beyond them where it is in none of these. */
function cluster(answer, index) {
  const { alternative } = answer.neighbors[index];
  const shown = alternativesShown(answer).length;
  return alternative >= 0 && alternative < shown ? alternative : shown;
}

const hint = (truth) => `Distances are to the ${truth ? "truth" : "estimate"}. Point at an image, or walk through them with Tab, to find it on the map.`;

function tile(neighbor, index, answer, truth) {
  const away = truth ? distanceKm(neighbor, truth) : neighbor.distance_m / 1000;
  const rank = cluster(answer, index);
  const label = `Similar image ${index + 1}: ${neighbor.place}, ${km(away)} from the ${truth ? "truth" : "estimate"}`;
  const picture = neighbor.thumbnail
    ? h("img", { src: neighbor.thumbnail, alt: "", loading: "lazy", width: 96, height: 96 })
    : h("span", { class: "words" }, neighbor.place, h("small", {}, neighbor.attribution));
  return h("button", {
    type: "button", "data-index": index, "aria-label": label, style: { "--of": neighborColour(neighbor, answer.neighbors, truth) },
    onmouseenter: () => light(index), onmouseleave: () => light(null), onfocus: () => light(index), onblur: () => light(null),
    onclick: () => goTo(neighbor),
  }, picture, rank < alternativesShown(answer).length && h("b", { "aria-hidden": "true" }, String(rank + 1)), h("span", { class: "away", "aria-hidden": "true" }, km(away)));
}

/** Marks the thumbnail that is pointed at, and says what it is. */
export function drawEvidenceLit() {
  const answer = selected()?.answer;
  const about = byId("about");
  if (!answer || !about) return;
  for (const button of document.querySelectorAll("#evidence [data-index]")) {
    button.classList.toggle("lit", Number(button.dataset.index) === state.lit);
  }
  if (state.lit === null) return; // what was said stays, so that its link can be reached
  const neighbor = answer.neighbors[state.lit];
  about.classList.add("says"); // from here on it stays in sight; a mere hint does not cover thumbnails
  about.replaceChildren(
    h("strong", {}, neighbor.place), ` · similarity ${neighbor.similarity.toFixed(3)} · weight ${percent(neighbor.weight)}`, h("br"),
    neighbor.attribution || "Source unknown", " ", link(neighbor) ?? "");
}

/** The picture's own address, which only a click opens. */
function link({ picture }) {
  if (!/^https?:\/\//i.test(picture)) return null;
  return h("a", { href: picture, target: "_blank", rel: "noopener noreferrer" }, "Open the picture at its source");
}
