// What the colours on the map mean.

import { h, byId } from "./dom.js";
import { DISTANCES, similarityRange, similarityStops } from "./colours.js";
import { selected, shownTruth } from "./store.js";

export function drawLegend() {
  const answer = selected()?.answer;
  const box = byId("legend");
  box.hidden = !answer?.neighbors.length;
  if (box.hidden) return;
  const truth = shownTruth();
  box.replaceChildren(...(truth ? byDistance() : bySimilarity(answer)));
}

function byDistance() {
  return [h("h2", {}, "Distance to the truth"),
    h("ul", {}, DISTANCES.map((step) => h("li", {}, h("i", { style: { background: step.colour } }), step.label)))];
}

function bySimilarity(answer) {
  const [low, high] = similarityRange(answer.neighbors);
  return [h("h2", {}, "Similar images"),
    h("span", { class: "ramp", style: { background: `linear-gradient(90deg, ${similarityStops})` } }),
    h("p", { class: "ends" }, h("span", {}, `less (${low.toFixed(2)})`), h("span", {}, `more (${high.toFixed(2)})`)),
    h("ul", { class: "optional" },
      answer.localizable && h("li", {}, h("i", { class: "ring" }), "estimate and its radii"),
      answer.cells.length > 0 && h("li", {}, h("i", { class: "square", style: { background: "color-mix(in srgb, var(--cell) 40%, var(--land))" } }), "likely cells, darker is likelier"))];
}
