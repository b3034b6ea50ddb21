// What the page knows. One object; whoever changes it says so, and the views draw themselves again.

import { distanceKm } from "./geo.js";

/**
 * An image on the page: id, name, file, url (of its picture, or null), state ("waiting", "asking", "done", "failed"),
 * answer, failure, exif ({lat, lon} or null), truth ({lat, lon} or null), notice (a sentence or "").
 */
export const state = {
  items: [],
  selected: null,
  lit: null, // index of the neighbour that is pointed at
  comparing: false, // everything is coloured by distance to the truth
  picking: false, // the next click on the map names the truth
};

const views = new Set();

export function subscribe(view) {
  views.add(view);
}

/** Something changed: `what` is "items", "selection", "lit" or "truth". */
export function changed(what) {
  for (const view of views) view(what);
}

export const selected = () => state.items.find((item) => item.id === state.selected) ?? null;

/** The truth that everything is compared with now, or null. */
export const shownTruth = () => (state.comparing ? (selected()?.truth ?? null) : null);

export function select(id) {
  state.selected = id;
  state.lit = null;
  state.comparing = state.comparing && Boolean(selected()?.truth);
  state.picking = false;
  changed("selection");
}

export function light(index) {
  if (state.lit === index) return;
  state.lit = index;
  changed("lit");
}

export function setTruth(place) {
  const item = selected();
  if (!item) return;
  item.truth = place;
  state.comparing = Boolean(place);
  state.picking = false;
  changed("truth");
}

export function compare(on) {
  state.comparing = on && Boolean(selected()?.truth);
  changed("truth");
}

export function pick(on) {
  state.picking = on;
  changed("truth");
}

/** The alternatives worth a line and a number on the map. */
export const alternativesShown = (answer) => answer.alternatives.filter((place, index) => index === 0 || place.weight >= 0.01);

/** Distance of the estimate to the truth, km, or null where none is known. */
export const offBy = (item) => (item?.truth && item.answer ? distanceKm(item.answer, item.truth) : null);
