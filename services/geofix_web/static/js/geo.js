// The sphere: degrees in and out, kilometres along great circles (mean Earth radius R1 of the IUGG).

const EARTH_KM = 6371.0088;
const RAD = Math.PI / 180;

/** Great-circle distance in km (haversine). */
export function distanceKm(a, b) {
  const dLat = (b.lat - a.lat) * RAD;
  const dLon = (b.lon - a.lon) * RAD;
  const x = Math.sin(dLat / 2) ** 2 + Math.cos(a.lat * RAD) * Math.cos(b.lat * RAD) * Math.sin(dLon / 2) ** 2;
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(x)));
}

/** The longitude, a whole number of turns away, that is nearest to another: for drawing across the antimeridian. */
export const near = (lon, other) => lon + 360 * Math.round((other - lon) / 360);

/** The longitude in [-180, 180). */
export const wrap = (lon) => lon - 360 * Math.floor((lon + 180) / 360);

/** Points {lat, lon} of a circle on the sphere, longitudes continuous; null where it holds a pole, which no ring on a map can. */
export function circle(centre, km, count = 128) {
  const delta = km / EARTH_KM;
  const phi = centre.lat * RAD;
  if (Math.abs(phi) + delta >= Math.PI / 2) return null;
  return Array.from({ length: count }, (_, i) => {
    const bearing = (2 * Math.PI * i) / count;
    const lat = Math.asin(Math.sin(phi) * Math.cos(delta) + Math.cos(phi) * Math.sin(delta) * Math.cos(bearing));
    const lon = Math.atan2(
      Math.sin(bearing) * Math.sin(delta) * Math.cos(phi),
      Math.cos(delta) - Math.sin(phi) * Math.sin(lat),
    );
    return { lat: lat / RAD, lon: centre.lon + lon / RAD };
  });
}
