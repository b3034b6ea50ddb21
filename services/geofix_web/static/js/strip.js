// All images of the page, each with its state.

import { h, byId } from "./dom.js";
import { select, state } from "./store.js";
import { km, radii } from "./words.js";

export function drawStrip() {
  const list = byId("strip");
  list.hidden = state.items.length < 2;
  document.body.classList.toggle("has-strip", !list.hidden);
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  list.replaceChildren(...state.items.map(tile));
  if (focused) list.querySelector(`[data-id="${focused}"]`)?.focus();
}

const WORDS = { waiting: "waiting", asking: "looking…", failed: "no answer" };

function tile(item) {
  const [wide] = item.answer ? radii(item.answer) : [];
  const words = WORDS[item.state] ?? (item.answer.localizable ? (wide ? `± ${km(wide.radius_m / 1000)}` : item.answer.place) : "not locatable");
  const broken = h("span", { class: "blank", "aria-hidden": "true" }, "!");
  const picture = h("img", { src: item.url, alt: "", onerror: (event) => event.target.replaceWith(broken) });
  return h("li", {}, h("button", {
    type: "button", class: item.state, "data-id": item.id, "aria-current": String(item.id === state.selected),
    "aria-label": `${item.name}: ${words}`, title: item.name, onclick: () => select(item.id),
  }, picture, h("span", {}, item.name), h("span", {}, words)));
}
