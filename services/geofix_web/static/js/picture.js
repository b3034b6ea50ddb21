// The answer as a picture to share, drawn here: the map, the radii, the dots, and what they say.

import { h, themed } from "./dom.js";
import { distanceColour, neighborColour } from "./colours.js";
import { circle, distanceKm, near } from "./geo.js";
import { theWorld } from "./map.js";
import { shownTruth } from "./store.js";
import { coordinates, km, radii, sureness } from "./words.js";
import { drawNames, drawWorld, mercator, palette } from "./world.js";

const [WIDTH, HEIGHT, SIDE] = [1200, 630, 380];
const FONT = "Inter, system-ui, sans-serif";

/** A PNG of 1200 x 630 pixels. */
export async function drawCard(item) {
  const { answer } = item;
  const truth = shownTruth();
  const canvas = h("canvas", { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d");
  const view = viewOf(answer, truth);
  const at = ({ lat, lon }) => {
    const [u, v] = mercator(lat, near(lon, answer.lon));
    return [(u - view.left) * view.scale, (v - view.top) * view.scale];
  };
  drawWorld(context, theWorld, view, palette());
  const zoom = Math.log2(view.scale / 256);
  drawNames(context, theWorld, { zoom, width: view.width, height: HEIGHT, project: (lat, lon) => [at({ lat, lon })], taken: [around(at(answer), 34)] }, palette());
  if (answer.localizable) drawRadii(context, answer, at);
  for (const neighbor of [...answer.neighbors].reverse()) dot(context, at(neighbor), 6, neighborColour(neighbor, answer.neighbors, truth));
  if (truth) drawTruth(context, at(answer), at(truth), distanceColour(distanceKm(answer, truth)));
  drawTarget(context, at(answer), answer.localizable);
  await drawSide(context, item, truth);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

const around = ([x, y], r) => [x - r, y - r, x + r, y + r];

/** The part of the world that the map of the card shows: the widest radius and the evidence in and about it. */
function viewOf(answer, truth) {
  const wide = Math.max(250, ...answer.radii.map((r) => r.radius_m / 1000));
  const close = answer.neighbors.filter((n) => distanceKm(n, answer) < 3 * wide);
  const points = [...(circle(answer, wide) ?? [answer]), ...close, ...(truth ? [truth] : [])].map((p) => mercator(p.lat, near(p.lon, answer.lon)));
  const [us, vs] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const width = WIDTH - SIDE;
  const scale = Math.min((width * 0.84) / (Math.max(...us) - Math.min(...us)), (HEIGHT * 0.8) / (Math.max(...vs) - Math.min(...vs)), 256 * 2 ** 8);
  const [cu, cv] = [(Math.max(...us) + Math.min(...us)) / 2, (Math.max(...vs) + Math.min(...vs)) / 2];
  return { left: cu - width / 2 / scale, top: cv - HEIGHT / 2 / scale, scale, width, height: HEIGHT };
}

function drawRadii(context, answer, at) {
  context.strokeStyle = themed("--accent");
  for (const radius of answer.radii) {
    context.setLineDash(radius.probability <= 0.5 ? [5, 6] : []);
    context.lineWidth = 2.5;
    context.beginPath();
    (circle(answer, radius.radius_m / 1000) ?? []).forEach((p) => context.lineTo(...at(p)));
    context.closePath();
    context.stroke();
  }
  context.setLineDash([]);
}

function dot(context, [x, y], r, colour) {
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = themed("--dot-edge");
  context.lineWidth = 2;
  context.stroke();
}

function drawTarget(context, [x, y], sure) {
  context.strokeStyle = themed(sure ? "--accent" : "--muted");
  context.lineWidth = 3.5;
  context.beginPath();
  context.arc(x, y, 10, 0, 2 * Math.PI);
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 7 * dx, y + 7 * dy);
    context.lineTo(x + 22 * dx, y + 22 * dy);
  }
  context.stroke();
}

function drawTruth(context, from, to, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 4;
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  dot(context, to, 8, themed("--ink"));
}

async function drawSide(context, item, truth) {
  const { answer } = item;
  const x = WIDTH - SIDE;
  context.fillStyle = themed("--panel");
  context.fillRect(x, 0, SIDE, HEIGHT);
  let y = 40;
  const image = await createImageBitmap(item.file).catch(() => null);
  if (image) {
    const side = Math.min(image.width, image.height);
    context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, x + 32, y, 196, 196);
    y += 196 + 44;
  }
  const write = (text, size, weight, colour) => {
    context.font = `${weight} ${size}px ${FONT}`;
    context.fillStyle = themed(colour);
    for (const line of wrapped(context, text, SIDE - 64)) {
      context.fillText(line, x + 32, y);
      y += size * 1.3;
    }
  };
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  write(answer.localizable ? answer.place : "Cannot be located", 28, 650, "--ink");
  if (answer.localizable) write(coordinates(answer), 17, 400, "--muted");
  y += 14;
  for (const [i, radius] of (answer.localizable ? radii(answer) : []).entries()) write(sureness(radius), 19, i ? 400 : 600, "--ink");
  if (truth) write(`off by ${km(distanceKm(answer, truth))}`, 19, 600, "--ink");
  y = HEIGHT - 46;
  write("geofix", 17, 680, "--accent");
  write("Map: Natural Earth, GeoNames", 12, 400, "--muted");
}

function wrapped(context, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (context.measureText(longer).width > width && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}
