// The GPS position in a file's EXIF data, read here and sent nowhere. JPEG, PNG and WebP; anything odd is no position.

const HEAD_BYTES = 512 * 1024;

/** {lat, lon} in degrees, or null. */
export async function readGps(file) {
  try {
    const view = new DataView(await file.slice(0, HEAD_BYTES).arrayBuffer());
    const at = findTiff(view);
    return at === null ? null : gpsOf(new Tiff(view, at));
  } catch {
    return null; // truncated or damaged
  }
}

const text = (view, at, count) => String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, count));

function findTiff(view) {
  if (view.getUint16(0) === 0xffd8) {
    for (let at = 2; view.getUint8(at) === 0xff && view.getUint8(at + 1) !== 0xda; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint8(at + 1) === 0xe1 && text(view, at + 4, 6) === "Exif\0\0") return at + 10;
    }
  } else if (text(view, 1, 3) === "PNG") {
    for (let at = 8; at + 8 < view.byteLength; at += 12 + view.getUint32(at)) {
      if (text(view, at + 4, 4) === "eXIf") return at + 8;
    }
  } else if (text(view, 0, 4) === "RIFF" && text(view, 8, 4) === "WEBP") {
    for (let at = 12; at + 8 < view.byteLength; ) {
      const size = view.getUint32(at + 4, true);
      if (text(view, at, 4) === "EXIF") return text(view, at + 8, 6) === "Exif\0\0" ? at + 14 : at + 8;
      at += 8 + size + (size % 2);
    }
  }
  return null;
}

class Tiff {
  constructor(view, start) {
    Object.assign(this, { view, start, little: view.getUint16(start) === 0x4949 });
  }
  u16(at) { return this.view.getUint16(this.start + at, this.little); }
  u32(at) { return this.view.getUint32(this.start + at, this.little); }
  /** Tag -> offset of its value, for the directory at an offset. */
  directory(offset) {
    const entries = new Map();
    for (let i = 0, at = offset + 2; i < this.u16(offset); i++, at += 12) entries.set(this.u16(at), at + 8);
    return entries;
  }
}

function gpsOf(tiff) {
  const pointer = tiff.directory(tiff.u32(4)).get(0x8825);
  if (pointer === undefined) return null;
  const gps = tiff.directory(tiff.u32(pointer));
  const degrees = (valueTag, refTag, negative) => {
    const at = tiff.u32(gps.get(valueTag));
    const [d, m, s] = [0, 8, 16].map((i) => tiff.u32(at + i) / (tiff.u32(at + i + 4) || NaN));
    const ref = String.fromCharCode(tiff.view.getUint8(tiff.start + gps.get(refTag)));
    return (ref === negative ? -1 : 1) * (d + m / 60 + (Number.isNaN(s) ? 0 : s) / 3600);
  };
  const [lat, lon] = [degrees(2, 1, "S"), degrees(4, 3, "W")];
  return Math.abs(lat) <= 90 && Math.abs(lon) <= 180 && (lat !== 0 || lon !== 0) ? { lat, lon } : null;
}
