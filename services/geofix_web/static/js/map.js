// The map: an answer's estimate, radii, cells, neighbours and alternatives over the offline basemap.

import { byId, themed } from "./dom.js";
import { circle, distanceKm, near, wrap } from "./geo.js";
import { distanceColour, neighborColour } from "./colours.js";
import { alternativesShown, light, selected, setTruth, shownTruth, state } from "./store.js";
import { coordinates, km, percent, sureness } from "./words.js";
import { NamesLayer, WorldLayer, loadPlaces, loadWorld } from "./world.js";

const TARGET = '<svg viewBox="0 0 44 44"><circle cx="22" cy="22" r="9"/><path d="M22 3v12M22 29v12M3 22h12M29 22h12"/></svg>';
const PIN = '<svg viewBox="0 0 26 34"><path d="M13 33C9 26 2 20 2 12a11 11 0 0 1 22 0c0 8-7 14-11 21z"/><circle cx="13" cy="12" r="4"/></svg>';
let map, layers, world, names, dots = [];
export let theWorld = null;

/** Opens the map; resolves when the world is drawn. */
export async function openMap() {
  map = L.map("map", { minZoom: 1, maxZoom: 11, zoomSnap: 0.5, worldCopyJump: true, attributionControl: false, zoomControl: false });
  L.control.zoom({ position: "topright" }).addTo(map);
  L.control.attribution({ position: "bottomright", prefix: false }).addTo(map)
    .addAttribution("Natural Earth · names: GeoNames CC BY 4.0");
  map.setView([24, 12], window.innerWidth < 860 ? 1 : 2);
  layers = L.layerGroup().addTo(map);
  map.on("click", ({ latlng }) => state.picking && setTruth({ lat: latlng.lat, lon: wrap(latlng.lng) }));
  new ResizeObserver(() => map.invalidateSize({ animate: false })).observe(byId("map"));
  theWorld = await loadWorld();
  world = new WorldLayer(theWorld).addTo(map);
  names = new NamesLayer(theWorld).addTo(map);
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("geofix:map")));
  await Promise.all([loadPlaces(theWorld), document.fonts.load("11px Inter")]);
  names.draw();
}

export function restyleMap() {
  world?.restyle();
  names?.draw();
  drawAnswer();
}

/** Draws the selected answer. */
export function drawAnswer() {
  layers.clearLayers();
  dots = [];
  document.body.classList.toggle("picking", state.picking);
  const item = selected();
  const answer = item?.answer;
  const truth = shownTruth();
  if (answer) {
    drawCells(answer);
    if (answer.localizable) drawRadii(answer);
    drawNeighbors(answer, truth);
    drawAlternatives(answer);
    drawEstimate(answer, truth);
    if (item.exif) pin(item.exif, "exif-pin", "<b><span>E</span></b>", [26, 26], [13, 13], "Position in the file (EXIF)", answer.lon);
    if (truth) pin(truth, "truth-pin", PIN, [26, 34], [13, 33], `Truth, ${coordinates(truth)}`, answer.lon);
  }
  drawLit();
}

function drawCells(answer) {
  const greatest = Math.max(...answer.cells.map((c) => c.probability), 1e-9);
  const colour = themed("--cell");
  for (const cell of answer.cells) {
    for (const [ring] of cell.outline?.coordinates ?? []) {
      const turn = near(ring[0][0], answer.lon) - ring[0][0];
      const points = ring.map(([lon, lat]) => [lat, lon + turn]);
      const fillOpacity = 0.04 + 0.3 * Math.sqrt(cell.probability / greatest);
      const area = L.polygon(points, { stroke: false, fillColor: colour, fillOpacity, smoothFactor: 0.3, className: "cell" });
      area.bindTooltip(`Cell ${cell.cell_id}: ${percent(cell.probability)}`, { sticky: true }).addTo(layers);
      edges(ring, points, colour);
    }
  }
}

/** The outline without the stretches along the antimeridian, where a cell is only cut for the map. */
function edges(ring, points, colour) {
  let line = [];
  const flush = () => {
    if (line.length > 1) L.polyline(line, { color: colour, weight: 1, opacity: 0.55, smoothFactor: 0.3, interactive: false }).addTo(layers);
    line = [];
  };
  points.forEach((point, i) => {
    if (i && Math.abs(ring[i][0]) === 180 && ring[i][0] === ring[i - 1][0]) flush();
    line.push(point);
  });
  flush();
}

function drawRadii(answer) {
  for (const radius of answer.radii) {
    const points = circle(answer, radius.radius_m / 1000);
    if (!points) continue;
    const inner = radius.probability <= 0.5;
    const style = { color: themed("--accent"), weight: inner ? 1.5 : 2, dashArray: inner ? "4 5" : null, fillOpacity: inner ? 0.07 : 0.03, smoothFactor: 0, interactive: false };
    L.polygon(points.map((p) => [p.lat, p.lon]), style).addTo(layers);
    const edge = points[inner ? points.length / 2 : 0];
    const icon = L.divIcon({ className: "radius-name", html: "", iconSize: [0, 0] });
    L.marker([edge.lat, edge.lon], { icon, interactive: false, keyboard: false })
      .bindTooltip(sureness(radius), { permanent: true, direction: "center", className: "radius-label" }).addTo(layers);
  }
}

function drawNeighbors(answer, truth) {
  answer.neighbors.forEach((neighbor, index) => {
    const place = [neighbor.lat, near(neighbor.lon, answer.lon)];
    const cluster = answer.alternatives[neighbor.alternative];
    if (cluster) {
      const spoke = [place, [cluster.lat, near(cluster.lon, answer.lon)]];
      L.polyline(spoke, { color: themed("--ink"), weight: 1, opacity: 0.35, interactive: false }).addTo(layers);
    }
    const icon = L.divIcon({ className: "dot", html: "<i></i>", iconSize: [24, 24] });
    const alt = `Similar image ${index + 1}, ${neighbor.place}, ${km(neighbor.distance_m / 1000)} from the estimate`;
    const dot = L.marker(place, { icon, alt, zIndexOffset: 500 - index }).addTo(layers);
    dot.bindTooltip(`${neighbor.place} · ${km(truth ? distanceKm(neighbor, truth) : neighbor.distance_m / 1000)}${truth ? " from the truth" : ""}`, { direction: "top", offset: [0, -8] });
    const element = dot.getElement();
    element.style.setProperty("--of", neighborColour(neighbor, answer.neighbors, truth));
    element.setAttribute("aria-label", alt);
    dot.on("mouseover", () => light(index)).on("mouseout", () => light(null)).on("click", () => light(index));
    element.addEventListener("focus", () => light(index));
    element.addEventListener("blur", () => light(null));
    dots[index] = dot;
  });
}

function drawAlternatives(answer) {
  alternativesShown(answer).forEach((place, index) => {
    const icon = L.divIcon({ className: "place", html: `<b>${index + 1}</b>`, iconSize: [24, 24], iconAnchor: [-2, 26] });
    L.marker([place.lat, near(place.lon, answer.lon)], { icon, interactive: false, keyboard: false, zIndexOffset: 300 }).addTo(layers);
  });
}

function drawEstimate(answer, truth) {
  if (truth) {
    const line = [[answer.lat, answer.lon], [truth.lat, near(truth.lon, answer.lon)]];
    L.polyline(line, { color: distanceColour(distanceKm(answer, truth)), weight: 3, interactive: false }).addTo(layers);
  }
  const label = answer.localizable ? `Estimate: ${answer.place}` : `Best guess: ${answer.place}`;
  pin(answer, answer.localizable ? "estimate" : "estimate guess", TARGET, [44, 44], [22, 22], label, answer.lon);
}

function pin(place, className, html, iconSize, iconAnchor, alt, lon) {
  const icon = L.divIcon({ className, html, iconSize, iconAnchor });
  const marker = L.marker([place.lat, near(place.lon, lon)], { icon, alt, keyboard: false, zIndexOffset: 700 }).addTo(layers);
  marker.bindTooltip(alt, { direction: "top", offset: [0, -12] });
  marker.getElement().setAttribute("role", "img");
  marker.getElement().setAttribute("aria-label", alt);
}

/** Marks the neighbour that is pointed at. */
export function drawLit() {
  dots.forEach((dot, index) => {
    const on = index === state.lit;
    dot.getElement()?.classList.toggle("lit", on);
    if (on) dot.openTooltip();
    else dot.closeTooltip();
  });
}

/** Shows the answer: its radii and the evidence close by; with `all`, everything. */
export function frame(all = false) {
  const answer = selected()?.answer;
  if (!answer) return;
  const wide = Math.max(0, ...answer.radii.map((r) => r.radius_m / 1000));
  const reach = all || !wide ? Infinity : Math.max(3 * wide, 300);
  const bounds = L.latLngBounds([[answer.lat, answer.lon]]);
  for (const p of circle(answer, Math.max(wide, 150)) ?? []) bounds.extend([p.lat, p.lon]);
  const places = [...answer.neighbors, ...answer.alternatives, ...(shownTruth() ? [shownTruth()] : [])];
  for (const p of places) if (distanceKm(p, answer) <= reach || p === shownTruth()) bounds.extend([p.lat, near(p.lon, answer.lon)]);
  const bottom = document.body.classList.contains("has-strip") ? 120 : 40;
  const animate = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.fitBounds(bounds, { paddingTopLeft: [40, 60], paddingBottomRight: [40, bottom], maxZoom: 9, animate, duration: 0.35 });
}

/** Shows one place of the answer. */
export function goTo(place) {
  map.setView([place.lat, near(place.lon, map.getCenter().lng)], Math.max(6, map.getZoom()));
}
