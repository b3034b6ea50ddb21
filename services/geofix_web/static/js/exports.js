// What can be taken away: GeoJSON, KML, the answer as JSON, and a picture of the map.

import { h, save, announce } from "./dom.js";
import { circle, distanceKm, wrap } from "./geo.js";
import { drawCard } from "./picture.js";
import { coordinates, percent } from "./words.js";

export function exportBlock(item) {
  const stem = item.name.replace(/\.[^.]+$/, "") || "image";
  const text = (suffix, type, make) => () => save(`${stem}.${suffix}`, new Blob([make(item)], { type }));
  const png = async (event) => {
    const button = event.target;
    button.disabled = true;
    save(`${stem}-where.png`, await drawCard(item));
    button.disabled = false;
    announce("The picture is saved");
  };
  const button = (label, onclick) => h("button", { class: "button", type: "button", onclick }, label);
  return h("section", { class: "block", "aria-label": "Export" }, h("header", {}, h("h2", {}, "Take it away")),
    h("div", { class: "row" },
      button("Picture (PNG)", png),
      button("GeoJSON", text("geojson", "application/geo+json", (i) => `${JSON.stringify(geojson(i), null, 1)}\n`)),
      button("KML", text("kml", "application/vnd.google-earth.kml+xml", kml)),
      button("JSON", text("json", "application/json", (i) => `${JSON.stringify({ file: i.name, truth: i.truth, ...i.answer }, null, 1)}\n`))));
}

const point = ({ lat, lon }) => ({ type: "Point", coordinates: [round(wrap(lon)), round(lat)] });
const round = (value) => Math.round(value * 1e6) / 1e6;

/** The answer as a FeatureCollection (RFC 7946). */
export function geojson({ name, answer, truth }) {
  const feature = (kind, geometry, properties) => ({ type: "Feature", geometry, properties: { kind, ...properties } });
  const off = truth ? { off_by_km: round(distanceKm(answer, truth)) } : {};
  return {
    type: "FeatureCollection",
    features: [
      feature("estimate", point(answer), { file: name, place: answer.place, localizable: answer.localizable, model_version: answer.model_version, gallery_version: answer.gallery_version, ...off }),
      ...answer.radii.map((r) => feature("radius", ring(answer, r.radius_m / 1000), r)),
      ...answer.alternatives.map((a, i) => feature("alternative", point(a), { rank: i + 1, place: a.place, weight: a.weight, neighbors: a.neighbors })),
      ...answer.neighbors.map((n, i) => feature("neighbor", point(n), { rank: i + 1, id: n.id, similarity: n.similarity, weight: n.weight, alternative: n.alternative, distance_m: n.distance_m, attribution: n.attribution })),
      ...answer.cells.filter((c) => c.outline).map((c) => feature("cell", c.outline, { cell_id: c.cell_id, probability: c.probability })),
      ...(truth ? [feature("truth", point(truth), {})] : []),
    ],
  };
}

/** A circle as a polygon, cut where it crosses the antimeridian; null where it holds a pole. */
function ring(centre, radiusKm) {
  const points = circle(centre, radiusKm);
  if (!points) return null;
  points.reverse(); // exterior rings run counterclockwise
  points.push(points[0]);
  const turns = new Set(points.map((p) => Math.floor((p.lon + 180) / 360)));
  const pieces = [...turns].map((turn) => clip(clip(points, -180 + 360 * turn, 1), 180 + 360 * turn, -1).map((p) => [round(p.lon - 360 * turn), round(p.lat)]));
  return { type: "MultiPolygon", coordinates: pieces.filter((piece) => piece.length > 3).map((piece) => [piece]) };
}

/** What of a closed ring lies east (side 1) or west (-1) of a meridian (Sutherland and Hodgman). */
function clip(points, edge, side) {
  const kept = [];
  points.slice(1).forEach((b, i) => {
    const a = points[i];
    const [inA, inB] = [side * (a.lon - edge) >= 0, side * (b.lon - edge) >= 0];
    if (inA) kept.push(a);
    if (inA !== inB) kept.push({ lon: edge, lat: a.lat + ((b.lat - a.lat) * (edge - a.lon)) / (b.lon - a.lon) });
  });
  return kept.length ? [...kept, kept[0]] : [];
}

const escaped = (text) => String(text).replace(/[<>&"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[^\P{Cc}\n\t]/gu, "?");

/** The answer as KML 2.2. */
export function kml({ name, answer, truth }) {
  const lines = (ringOf) => ringOf.map(([lon, lat]) => `${lon},${lat}`).join(" ");
  const polygons = (geometry) => `<MultiGeometry>${geometry.coordinates.map(([outer]) => `<Polygon><outerBoundaryIs><LinearRing><coordinates>${lines(outer)}</coordinates></LinearRing></outerBoundaryIs></Polygon>`).join("")}</MultiGeometry>`;
  const mark = (title, words, geometry) => `<Placemark><name>${escaped(title)}</name><description>${escaped(words)}</description>${geometry}</Placemark>`;
  const at = (place) => `<Point><coordinates>${point(place).coordinates.join(",")}</coordinates></Point>`;
  const circles = answer.radii.map((r) => [r, ring(answer, r.radius_m / 1000)]).filter(([, geometry]) => geometry);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>', '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>', `<name>${escaped(name)}</name>`,
    mark(answer.localizable ? "Estimate" : "Best guess (cannot be located)", `${answer.place}; ${coordinates(answer)}`, at(answer)),
    ...circles.map(([r, geometry]) => mark(`${percent(r.probability)} radius`, `${Math.round(r.radius_m / 1000)} km`, polygons(geometry))),
    ...answer.alternatives.map((a, i) => mark(`Alternative ${i + 1}`, `${a.place}; weight ${percent(a.weight)}`, at(a))),
    ...answer.neighbors.map((n, i) => mark(`Similar image ${i + 1}`, `similarity ${n.similarity.toFixed(3)}; ${n.attribution}`, at(n))),
    ...(truth ? [mark("Truth", coordinates(truth), at(truth))] : []),
    "</Document></kml>", "",
  ].join("\n");
}
