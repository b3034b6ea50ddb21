// The truth, where it is known: named by a sample, by a click on the map, or typed in. Then everything shows how far off it is.

import { h } from "./dom.js";
import { compare, offBy, pick, setTruth, state } from "./store.js";
import { coordinates, km } from "./words.js";

export function truthBlock(item) {
  const known = item.truth;
  const toggle = known && h("button", { class: "button", id: "compare", type: "button", "aria-pressed": String(state.comparing), onclick: () => compare(!state.comparing) },
    state.comparing ? "Comparing" : "Compare with the truth");
  const click = h("button", { class: "button", id: "pick", type: "button", "aria-pressed": String(state.picking), onclick: () => pick(!state.picking) },
    state.picking ? "Click the map…" : known ? "Move it" : "Click it on the map");
  const forget = known && h("button", { class: "button", type: "button", onclick: () => setTruth(null) }, "Forget it");
  const words = known
    ? state.comparing ? `Taken at ${coordinates(known)}: the estimate is off by ${km(offBy(item))}.` : "It is known for this image."
    : "Do you know where it was taken?";
  return h("section", { class: "block truth" },
    h("header", {}, h("h2", {}, "The true place")),
    h("p", { class: "small", id: "truth-words" }, words),
    h("div", { class: "row" }, toggle, click, forget),
    !known && typed());
}

function typed() {
  const field = h("input", { name: "truth", placeholder: "or type latitude, longitude", "aria-label": "True place as latitude, longitude in degrees", inputmode: "text", autocomplete: "off" });
  const submit = (event) => {
    event.preventDefault();
    const [lat, lon] = field.value.split(/[,;\s]+/).filter(Boolean).map(Number);
    const good = Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
    field.setCustomValidity(good ? "" : "Two numbers of degrees, such as 30.6, 31.2");
    if (good) setTruth({ lat, lon });
    else field.reportValidity();
  };
  field.addEventListener("input", () => field.setCustomValidity(""));
  return h("form", { onsubmit: submit }, field, h("button", { class: "button", type: "submit" }, "Compare"));
}
