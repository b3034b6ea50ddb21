// Numbers and findings in words.

/** 7.6 km, 135 km, 1,240 km, 350 m. */
export function km(value) {
  if (value < 1) return `${Math.round(value * 1000)} m`;
  return value < 10 ? `${value.toFixed(1)} km` : `${Math.round(value).toLocaleString("en")} km`;
}

/** 27.90° N, 81.82° W. */
export function coordinates({ lat, lon }, digits = 2) {
  const part = (value, plus, minus) => `${Math.abs(value).toFixed(digits)}° ${value < 0 ? minus : plus}`;
  return `${part(lat, "N", "S")}, ${part(lon, "E", "W")}`;
}

export const percent = (value) => (value > 0 && value < 0.005 ? "< 1 %" : `${Math.round(value * 100)} %`);

export function bytes(count) {
  if (count < 1024 * 1024) return `${Math.max(1, Math.round(count / 1024))} KB`;
  return `${(count / 1024 / 1024).toFixed(1).replace(/\.0$/, "")} MB`;
}

export const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

/** What a radius says: "90 % sure within 60 km". */
export const sureness = (radius) => `${percent(radius.probability)} sure within ${km(radius.radius_m / 1000)}`;

/** The radii, widest first. */
export const radii = (answer) => [...answer.radii].sort((a, b) => b.probability - a.probability);

const METHODS = {
  cell_search: (a) => `Made from ${a.neighbors_used} similar images in the likely cells.`,
  gallery_search: (a) => `Made from ${a.neighbors_used} similar images of the whole gallery.`,
  cell_mean: ({ degraded }) =>
    `The middle of the likeliest cell: ${degraded ? "similar images could not be looked for" : "no similar image was found in it"}.`,
};

export const method = (answer) => (METHODS[answer.method] ?? (() => answer.method))(answer);

/** "Florida" from "florida.jpg", "Nile Delta" from "nile-delta.jpg". */
export function title(file) {
  const name = file.replace(/\.[^.]+$/, "").replace(/[-_]+/g, " ");
  return name.replace(/(^|\s)\p{Ll}/gu, (letter) => letter.toUpperCase());
}
