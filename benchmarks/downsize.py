"""What making large photos smaller before they are sent changes: bytes, time here, the feature, the estimate.

    python benchmarks/downsize.py [PHOTO...]     # about a minute; without photos the samples

Photos that are smaller are enlarged to the width of a phone's (--width, 4,032 pixels) with a sensor's noise. The bundle runs in
this process (bundles/orbit), on each photo, on what the client would send in its place, and, to compare, on the photo read at its
full size instead of a half, a quarter or an eighth of it, which is how servers read large JPEGs.
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
from geofix.decision import Decision
from geofix.geo import distance_km
from geofix.images import decode, prepare
from geofix.local import Heads, LocalEngine

ROOT = Path(__file__).resolve().parents[1]
Change = tuple[float, float, bool]


def main() -> None:
    """Print a row a photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--width", type=int, default=4032, help="pixels to which smaller photos are enlarged")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles/orbit")
    options = parser.parse_args()
    paths = options.photos or sorted((ROOT / "samples").glob("*.jpg"))
    bench = Bench(options.bundle)
    print("| photo | MB | MB sent | ms here | cosine of embeddings | apart, km | same gate |")
    print("|---|---|---|---|---|---|---|")
    for path in paths:
        data = enlarged(path, options.width)
        began = time.perf_counter()
        small = downsized(data)
        spent = 1000 * (time.perf_counter() - began)
        cosine, apart, same = bench.compare(data, small)
        sizes = f"{len(data) / 1e6:.2f} | {len(small) / 1e6:.2f} | {spent:.0f}"
        print(f"| {path.name} | {sizes} | {cosine:.5f} | {apart:.2f} | {'yes' if same else 'NO'} |")
    for what, changes in (("made smaller here", bench.sent), ("read in full by the server", bench.full)):
        cosines, aparts, gates = (np.array(column) for column in zip(*changes, strict=True))
        print(
            f"\n{what}: cosine {np.median(cosines):.5f} at the median, {min(cosines):.5f} at least; estimates apart "
            f"{np.median(aparts):.2f} km at the median, {max(aparts):.2f} km at most; "
            f"{np.sum(~gates)} of {len(gates)} gates differ"
        )


class Bench:
    """Answers of a bundle, beside those to photos as they are.

    Attributes:
        sent: of each photo made smaller: cosine of the embeddings, distance of the estimates in km, whether the gate is the same.
        full: the same of each photo read at its full size.
    """

    def __init__(self, bundle: Path) -> None:
        self._engine = LocalEngine(Bundle.load(bundle, verify=False))
        self._preprocessing = self._engine.bundle.manifest.preprocessing
        self.sent: list[Change] = []
        self.full: list[Change] = []

    def compare(self, data: bytes, small: bytes) -> Change:
        """What `small` in place of `data` changes."""
        usual = self._answer(data, self._preprocessing.decode_to)
        self.full.append(self._change(usual, self._answer(data, 0)))
        self.sent.append(self._change(usual, self._answer(small, self._preprocessing.decode_to)))
        return self.sent[-1]

    def _answer(self, data: bytes, at_least: int) -> tuple[Heads, Decision]:
        feature = self._engine.feature_of(prepare(decode(data, at_least=at_least), self._preprocessing))
        heads = self._engine.heads(feature[None])[0]
        return heads, self._engine.decide(heads)

    def _change(self, one: tuple[Heads, Decision], other: tuple[Heads, Decision]) -> Change:
        gates = [self._engine.bundle.calibration.localizable(decision.signals) for _, decision in (one, other)]
        cosine = float(one[0].embedding @ other[0].embedding)
        return cosine, float(distance_km(one[1].xyz, other[1].xyz)), gates[0] == gates[1]


def enlarged(path: Path, width: int) -> bytes:
    """The file, or where it is smaller a photo of this width that shows what it shows, with a sensor's noise."""
    with Image.open(path) as image:
        if image.width >= width:
            return path.read_bytes()
        large = image.convert("RGB").resize(
            (width, round(width * image.height / image.width)), Image.Resampling.BICUBIC
        )
    noise = np.random.default_rng(0).integers(-8, 9, (large.height, large.width, 1), np.int8)
    out = io.BytesIO()
    Image.fromarray((np.asarray(large, np.int16) + noise).clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


if __name__ == "__main__":
    main()
