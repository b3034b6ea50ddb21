// The offline basemap: Natural Earth's land and borders, and names of places, drawn on canvases.

import { themed } from "./dom.js";

const EDGE = 85.0511287798; // where Web Mercator is square
const TILE = 256;
const CITY_ZOOM = 4;

/** Web Mercator: degrees to the unit square. */
export const mercator = (lat, lon) => {
  const bounded = (Math.max(-EDGE, Math.min(EDGE, lat)) * Math.PI) / 180;
  return [(lon + 180) / 360, 0.5 - Math.asinh(Math.tan(bounded)) / (2 * Math.PI)];
};

/** Reads the basemap: land and borders now, names when they come. */
export async function loadWorld() {
  const response = await fetch("/map/world.json");
  const { step, land, borders, countries } = await response.json();
  const shapes = land.map((rings) => shape(rings, step));
  return { land: shapes, borders: borders.map((line) => shape([line], step)), countries, places: [] };
}

export async function loadPlaces(world) {
  world.places = await (await fetch("/map/places.json")).json();
}

function shape(lines, step) {
  const fill = new Path2D();
  const coast = new Path2D();
  const box = [1, 1, 0, 0];
  for (const line of lines) {
    let [x, y] = [0, 0];
    let seam = false;
    for (let i = 0; i < line.length; i += 2) {
      x += line[i];
      y += line[i + 1];
      const [lat, lon] = [y * step, x * step];
      const [u, v] = mercator(lat, lon);
      box[0] = Math.min(box[0], u); box[1] = Math.min(box[1], v);
      box[2] = Math.max(box[2], u); box[3] = Math.max(box[3], v);
      const onSeam = Math.abs(lon) > 179.99 || lat < -89.9; // the sheet's edge is no coast
      if (i === 0) fill.moveTo(u, v); else fill.lineTo(u, v);
      if (i === 0 || (seam && onSeam)) coast.moveTo(u, v); else coast.lineTo(u, v);
      seam = onSeam;
    }
  }
  return { fill, coast, box };
}

/** The colours of the current theme. */
export const palette = () =>
  Object.fromEntries(["sea", "land", "coast", "border", "label", "halo"].map((name) => [name, themed(`--${name}`)]));

/** Draws the part of the world whose unit-square corner (left, top) and scale (pixels a unit) are given, width x height pixels. */
export function drawWorld(context, world, { left, top, scale, width, height, ratio = 1 }, colours) {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.sea;
  context.fillRect(0, 0, width, height);
  const [right, bottom] = [left + width / scale, top + height / scale];
  for (let turn = Math.floor(left); turn <= Math.floor(right); turn++) {
    const unit = scale * ratio;
    context.setTransform(unit, 0, 0, unit, (turn - left) * unit, -top * unit);
    const inside = ({ box }) => box[0] + turn <= right && box[2] + turn >= left && box[1] <= bottom && box[3] >= top;
    const land = world.land.filter(inside);
    context.lineJoin = "round";
    context.fillStyle = colours.land;
    for (const { fill } of land) context.fill(fill, "evenodd");
    context.strokeStyle = colours.border;
    context.lineWidth = 0.9 / scale;
    for (const { coast } of world.borders.filter(inside)) context.stroke(coast);
    context.strokeStyle = colours.coast;
    context.lineWidth = 1 / scale;
    for (const { coast } of land) context.stroke(coast);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

/** Writes names where there is room, larger places first. `project` takes (lat, lon) to pixels; `taken` holds boxes to keep free. */
export function drawNames(context, world, { zoom, width, height, project, taken = [] }, colours) {
  const boxes = [...taken];
  const write = (text, x, y, size, weight, dot) => {
    context.font = `${weight} ${size}px Inter, system-ui, sans-serif`;
    const half = context.measureText(text).width / 2;
    const [cx, cy] = dot ? [x + half + 6, y] : [x, y];
    const box = [cx - half - 4, cy - size * 0.75, cx + half + 4, cy + size * 0.75];
    if (box[2] < 0 || box[0] > width || box[3] < 0 || box[1] > height) return;
    if (boxes.some((b) => b[0] < box[2] && b[2] > box[0] && b[1] < box[3] && b[3] > box[1])) return;
    boxes.push(box);
    context.strokeStyle = colours.halo;
    context.lineWidth = 3;
    context.strokeText(text, cx, cy);
    context.fillStyle = colours.label;
    context.fillText(text, cx, cy);
    if (dot) {
      context.beginPath();
      context.arc(x, y, 1.8, 0, 2 * Math.PI);
      context.fill();
    }
  };
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  const least = 6000 / 4 ** zoom; // square degrees that are wide enough for a name
  for (const [name, lat, lon, size] of world.countries) {
    if (size < least) break;
    if (zoom < 7) for (const [x, y] of project(lat, lon)) write(zoom < 5 ? name : name.toUpperCase(), x, y, zoom < 5 ? 11 : 10.5, 600, false);
  }
  if (zoom < CITY_ZOOM) return;
  const most = zoom < 5 ? 160 : zoom < 6 ? 700 : world.places.length;
  for (const [name, lat, lon] of world.places.slice(0, most)) {
    for (const [x, y] of project(lat, lon)) {
      if (x > -80 && x < width + 80 && y > -20 && y < height + 20) write(name, x, y, 11, 450, true);
    }
  }
}

/** The basemap as a layer of tiles. */
export const WorldLayer = L.GridLayer.extend({
  initialize(world) {
    L.GridLayer.prototype.initialize.call(this, { tileSize: TILE, updateWhenIdle: false, keepBuffer: 3, className: "world" });
    this.world = world;
    this.colours = palette();
  },
  createTile({ x, y, z }) {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const tile = L.DomUtil.create("canvas");
    tile.width = tile.height = TILE * ratio;
    const scale = TILE * 2 ** z;
    const view = { left: (x * TILE) / scale, top: (y * TILE) / scale, scale, width: TILE, height: TILE, ratio };
    drawWorld(tile.getContext("2d"), this.world, view, this.colours);
    return tile;
  },
  restyle() {
    this.colours = palette();
    this.redraw();
  },
});

/** Names above the basemap, written again when the map has come to rest. */
export const NamesLayer = L.Layer.extend({
  initialize(world) {
    this.world = world;
  },
  onAdd(map) {
    this.canvas = L.DomUtil.create("canvas", "leaflet-zoom-hide", map.getPane("tilePane"));
    this.canvas.style.zIndex = 2;
    map.on("moveend zoomend resize", this.draw, this);
    this.draw();
  },
  onRemove(map) {
    map.off("moveend zoomend resize", this.draw, this);
    this.canvas.remove();
  },
  draw() {
    const map = this._map;
    const { x: width, y: height } = map.getSize();
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    L.DomUtil.setPosition(this.canvas, map.containerPointToLayerPoint([0, 0]));
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const west = map.getBounds().getWest();
    const east = map.getBounds().getEast();
    const project = (lat, lon) => {
      const points = [];
      for (let turn = Math.ceil((west - lon) / 360); lon + 360 * turn <= east; turn++) {
        const point = map.latLngToContainerPoint([lat, lon + 360 * turn]);
        points.push([point.x, point.y]);
      }
      return points;
    };
    drawNames(context, this.world, { zoom: map.getZoom(), width, height, project }, palette());
  },
});
