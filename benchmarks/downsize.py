"""What making large photos smaller before they are sent changes: bytes, time here, the feature, the estimate.

    python benchmarks/downsize.py [PHOTO...]     # about a minute; without photos the samples, enlarged to 3,000 pixels

It runs the bundle in this process (bundles/orbit), on each original and on what the client would send in its place.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from geofix.bundle import Bundle
from geofix.client.downsize import downsized
from geofix.geo import distance_km
from geofix.local import LocalEngine

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print a row a photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles/orbit")
    options = parser.parse_args()
    photos: dict[str, bytes] = {path.name: path.read_bytes() for path in options.photos}
    photos = photos or {path.name: enlarged(path) for path in sorted((ROOT / "samples").glob("*.jpg"))}
    engine = LocalEngine(Bundle.load(options.bundle, verify=False))
    calibration = engine.bundle.calibration
    print(
        "| photo | MB | MB sent | ms here | cosine of embeddings | apart, km | same gate |\n|---|---|---|---|---|---|---|"
    )
    cosines, apart = [], []
    for name, data in photos.items():
        began = time.perf_counter()
        small = downsized(data)
        spent = 1000 * (time.perf_counter() - began)
        heads = [engine.heads(engine.feature(each)[None])[0] for each in (data, small)]
        one, other = (engine.decide(each) for each in heads)
        cosines.append(float(heads[0].embedding @ heads[1].embedding))
        apart.append(float(distance_km(one.xyz, other.xyz)))
        same = calibration.localizable(one.signals) == calibration.localizable(other.signals)
        sizes = f"{len(data) / 1e6:.2f} | {len(small) / 1e6:.2f} | {spent:.0f}"
        print(f"| {name} | {sizes} | {cosines[-1]:.5f} | {apart[-1]:.2f} | {'yes' if same else 'NO'} |")
    print(
        f"\nlowest cosine {min(cosines):.5f}; estimates apart: median {np.median(apart):.2f} km, most {max(apart):.2f} km"
    )


def enlarged(path: Path, width: int = 3000) -> bytes:
    """A photo of a phone's size that shows what a sample shows, with a sensor's noise."""
    with Image.open(path) as image:
        large = image.convert("RGB").resize(
            (width, round(width * image.height / image.width)), Image.Resampling.BICUBIC
        )
    noise = np.random.default_rng(0).integers(-8, 9, (large.height, large.width, 1), np.int8)
    out = io.BytesIO()
    Image.fromarray((np.asarray(large, np.int16) + noise).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


if __name__ == "__main__":
    main()
