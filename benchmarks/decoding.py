"""What decoding a large JPEG at a reduced scale saves, and how far it moves the embeddings of `orbit`.

    python benchmarks/decoding.py                     # the samples, enlarged to 2 MP
    python benchmarks/decoding.py --images DIRECTORY  # JPEG files of yours

Prints, for each least number of pixels a side, the processor time of decoding and of preparing, and the cosine between the
embedding and that of the file decoded at its full size. About half a minute.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.images import decode, prepare
from geofix.local import LocalEngine
from pictures import jpegs
from started import default_bundle


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="directory of JPEG files; default: the samples, enlarged")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--megapixels", type=float, default=2.0)
    given = parser.parse_args()
    if given.images:
        files = [path.read_bytes() for path in sorted(given.images.glob("*.jpg"))[: given.count]]
    else:
        files = jpegs(given.count, given.megapixels)
    engine = LocalEngine(Bundle.load(default_bundle()))
    preprocessing = engine.bundle.manifest.preprocessing
    print(
        f"{len(files)} files; network input {preprocessing.size} px; as served: at least {preprocessing.decode_to} px"
    )
    print("| at least, px | decode, CPU ms | prepare, CPU ms | cosine, median | 5 % | least | same best cell |")
    print("|---|---|---|---|---|---|---|")
    exact: list[tuple[NDArray[np.float32], int]] = []
    for at_least in (0, preprocessing.size, 2 * preprocessing.size):
        begun = time.process_time()
        images = [decode(file, at_least=at_least) for file in files]
        decoded = time.process_time()
        inputs = [prepare(image, preprocessing) for image in images]
        prepared = time.process_time()
        heads = engine.heads(np.stack([engine.feature_of(item) for item in inputs]))
        found = [(one.embedding, int(one.cells.cell_id[0])) for one in heads]
        exact = exact or found
        cosine = np.array([float(a @ b) for (a, _), (b, _) in zip(found, exact, strict=True)])
        same = np.mean([a == b for (_, a), (_, b) in zip(found, exact, strict=True)])
        ms = [1000 * seconds / len(files) for seconds in (decoded - begun, prepared - decoded)]
        print(
            f"| {at_least or 'full'} | {ms[0]:.1f} | {ms[1]:.1f} | {np.median(cosine):.4f} "
            f"| {np.quantile(cosine, 0.05):.4f} | {cosine.min():.4f} | {same:.0%} |"
        )


if __name__ == "__main__":
    main()
