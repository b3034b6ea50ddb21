// For those who want to know: where the time went, and what answered.

import { h } from "./dom.js";
import { milliseconds, percent } from "./words.js";

const STAGES = [
  ["cache_ms", "cache", "#8a97a3"],
  ["classify_ms", "classifier", "#2a788e"],
  ["embed_ms", "embedder", "#7ad151"],
  ["search_ms", "search", "#414487"],
  ["aggregate_ms", "clustering", "#fbb254"],
];

export function detailsBlock(answer) {
  const { timing } = answer;
  const spent = STAGES.filter(([key]) => timing[key] > 0);
  const sum = spent.reduce((total, [key]) => total + timing[key], 0) || 1;
  const bar = h("div", { class: "stages", "aria-hidden": "true" },
    spent.map(([key, , colour]) => h("i", { style: { width: `${(100 * timing[key]) / sum}%`, background: colour } })));
  const row = (term, value, colour) => [h("dt", {}, colour && h("i", { style: { background: colour } }), term), h("dd", {}, value)];
  return h("section", { class: "block" }, h("details", { id: "details" },
    h("summary", {}, `Answered in ${milliseconds(timing.total_ms)}${answer.cached ? ", from the cache" : ""}`),
    h("dl", { class: "facts" }, spent.flatMap(([key, name, colour]) => row(name, milliseconds(timing[key]), colour))), bar,
    h("dl", { class: "facts" },
      row("model", answer.model_version), row("gallery", answer.gallery_version || "not searched"), row("strategy", answer.strategy),
      row("neighbours used", String(answer.neighbors_used)),
      answer.cells.slice(0, 5).flatMap((cell) => row(`cell ${cell.cell_id}`, percent(cell.probability))))));
}
