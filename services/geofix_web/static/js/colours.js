// Colours with a meaning. Both scales keep their order for people who do not tell red from green.

import { distanceKm } from "./geo.js";

// viridis (Smith and van der Walt, 2015), from its first tenth to its ninth.
const SIMILARITY = ["#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26"];

/** Distances that the literature counts within (km): street, city, region, country, continent. */
export const DISTANCES = [
  { km: 1, colour: "#28339b", label: "within 1 km" },
  { km: 25, colour: "#2f6cb0", label: "within 25 km" },
  { km: 200, colour: "#74b3dd", label: "within 200 km" },
  { km: 750, colour: "#fbd96a", label: "within 750 km" },
  { km: 2500, colour: "#f08447", label: "within 2,500 km" },
  { km: Infinity, colour: "#c9252b", label: "farther" },
];

export const distanceColour = (km) => DISTANCES.find((step) => km <= step.km).colour;
export const similarityStops = SIMILARITY.join(", ");

/** Least and greatest similarity of an answer's neighbours. */
export function similarityRange(neighbors) {
  const all = neighbors.map((n) => n.similarity);
  return [Math.min(...all), Math.max(...all)];
}

/** Colour of a neighbour: by its distance to the truth where one is shown, by its similarity else. */
export function neighborColour(neighbor, neighbors, truth) {
  if (truth) return distanceColour(distanceKm(neighbor, truth));
  const [low, high] = similarityRange(neighbors);
  return mix((high > low ? (neighbor.similarity - low) / (high - low) : 1) * (SIMILARITY.length - 1));
}

/** Ink that can be read on a colour (WCAG relative luminance). */
export function inkOn(colour) {
  const [r, g, b] = channels(colour).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#111820" : "#ffffff";
}

const channels = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

function mix(position) {
  const index = Math.min(SIMILARITY.length - 2, Math.floor(position));
  const [a, b] = [channels(SIMILARITY[index]), channels(SIMILARITY[index + 1])];
  const mixed = a.map((v, i) => Math.round(v + (b[i] - v) * (position - index)));
  return `#${mixed.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}
