// Puts the page together.

import { Failure, ready, sampleFile, samples } from "./api.js";
import { byId, h } from "./dom.js";
import { drawLegend } from "./legend.js";
import { drawAnswer, drawLit, frame, openMap, restyleMap } from "./map.js";
import { drawEvidenceLit, drawPanel } from "./panel.js";
import { add, readLimits, retry } from "./queue.js";
import { selected, state, subscribe } from "./store.js";
import { drawStrip } from "./strip.js";
import { title } from "./words.js";

const WATCH_MS = 4000;
let framed = null;

subscribe((what) => {
  if (what === "lit") {
    drawLit();
    drawEvidenceLit();
    return;
  }
  drawStrip();
  drawPanel();
  drawLegend();
  drawAnswer();
  const item = selected();
  const key = item?.answer && `${item.id}:${what === "truth" ? JSON.stringify([item.truth, state.comparing]) : ""}`;
  if (key && key !== framed && (what !== "exif" && what !== "items")) frame();
  framed = key ?? framed;
  watchService();
});

function take(files, options) {
  const list = [...files];
  if (list.length) say("limit", add(list, options));
}

/** A message of a kind that stays until it no longer holds; an empty one takes it away. */
function say(kind, text, button = null) {
  byId(`message-${kind}`)?.remove();
  if (text) byId("messages").append(h("div", { class: "message", id: `message-${kind}` }, h("p", {}, text), button));
}

// Choosing, dropping, pasting.

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = "";
});
let depth = 0;
const veil = (on) => { byId("veil").hidden = !on; };
addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; veil(true); });
addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) veil(false); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  veil(false);
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => take(event.clipboardData.files));

// Left and right walk through the strip when nothing else wants the keys.
addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const strip = byId("strip");
  if (step && strip.contains(document.activeElement)) {
    const buttons = [...strip.querySelectorAll("button")];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  }
});

async function offerSamples() {
  const list = await samples();
  if (!list.length) return;
  byId("sample-list").replaceChildren(...list.map((sample) => {
    const choose = () => sampleFile(sample).then(
      (file) => take([file], { truth: { lat: sample.lat, lon: sample.lon } }),
      (error) => say("sample", error instanceof Failure ? error.message : String(error)),
    );
    return h("li", {}, h("button", { type: "button", onclick: choose },
      h("img", { src: sample.url, alt: "" }), h("span", {}, title(sample.name))));
  }));
  byId("samples").hidden = false;
}

// The service: what is said while something of it is away, and the way back.

let watching = 0;
function watchService() {
  if (!watching && state.items.some((item) => item.failure?.service)) watching = setTimeout(look, WATCH_MS);
}

async function look() {
  watching = 0;
  try {
    await ready();
    say("service", "");
    byId("service").hidden = true;
    await readLimits();
    retry();
  } catch (error) {
    down(error);
    watching = setTimeout(look, WATCH_MS);
  }
}

function down(error) {
  byId("service").hidden = false;
  byId("service").textContent = "Service away; looking again…";
  if (!state.items.length) say("service", error.message);
}

// Theme.

const button = byId("theme");
const theme = () => document.documentElement.dataset.theme;
button.setAttribute("aria-pressed", String(theme() === "dark"));
button.addEventListener("click", () => {
  document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
  button.setAttribute("aria-pressed", String(theme() === "dark"));
  try { localStorage.setItem("geofix-theme", theme()); } catch { /* private windows remember nothing */ }
  restyleMap();
});

readLimits().catch((error) => {
  down(error);
  watching ||= setTimeout(look, WATCH_MS);
});
offerSamples().catch((error) => say("sample", error.message));
await openMap();
drawAnswer();
