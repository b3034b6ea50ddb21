"""What `geofix gallery add` makes of the backbone's speed, in images a second from JPEG files to rows in Milvus Lite.

It is compared with the bare backbone on the same cores, whose inputs are decoded before the clock starts. Both run in turns; the
medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.images import decode, prepare
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.items import Item
from geofix.ingest.sources import Source
from geofix.ingest.stages import Loaded, Prepared
from started import default_bundle


def write_images(directory: Path, count: int, pixels: tuple[int, int]) -> Path:
    """JPEG files with the detail of photographs (noise at several scales), and the table of their places."""
    rng = np.random.default_rng(0)
    lines = ["file,lat,lon"]
    for index in range(count):
        picture = np.zeros((pixels[1], pixels[0], 3))
        for scale in (4, 16, 64):
            noise = Image.fromarray(rng.integers(0, 256, (pixels[1] // scale + 1, pixels[0] // scale + 1, 3), np.uint8))
            picture += np.asarray(noise.resize(pixels, Image.Resampling.BICUBIC), float) / 3
        Image.fromarray(picture.astype(np.uint8)).save(directory / f"{index}.jpg", quality=88)
        lines.append(f"{index}.jpg,{rng.uniform(-80, 80):.5f},{rng.uniform(-180, 180):.5f}")
    table = directory / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def bare(networks: LocalNetworks, images: list[Prepared]) -> float:
    """Images a second of the backbone alone, with as many calls at a time as `add` makes."""
    parts = [images[start : start + networks.batch] for start in range(0, len(images), networks.batch)]
    began = time.perf_counter()
    with ThreadPoolExecutor(networks.workers) as pool:
        for _ in pool.map(networks.features, parts):
            pass
    return len(images) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--pixels", type=int, nargs=2, default=(640, 480), help="width and height of the JPEG files")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    networks = LocalNetworks(bundle)
    with tempfile.TemporaryDirectory(prefix="geofix-build-") as directory:
        table = write_images(Path(directory), options.images, tuple(options.pixels))
        inputs = []
        for path in sorted(Path(directory).glob("*.jpg")):
            pixels = prepare(decode(path.read_bytes()), bundle.manifest.preprocessing)
            inputs.append(Prepared(Loaded(Item(path.name, (0.0, 0.0)), path.name, (0.0, 0.0)), pixels))
        alone, added = [], []
        with Store(f"{directory}/milvus.db", create=True) as store:
            admin = DirectAdmin(store, bundle)
            bare(networks, inputs[:32])  # the first passes are slower
            for turn in range(options.turns):
                alone.append(bare(networks, inputs))
                version = admin.create(f"turn{turn}", options.images).name
                report = Adder(admin, bundle, networks).run(version, Source(table))
                added.append(report.added / report.seconds)
                print(
                    f"the bare backbone {alone[-1]:.1f} images a second, geofix gallery add {added[-1]:.1f}", flush=True
                )
                admin.delete(version)
    ratio = statistics.median(added) / statistics.median(alone)
    size = "x".join(map(str, options.pixels))
    print(
        f"{bundle.version}, {options.images} JPEG files of {size}, {networks.workers} cores: ratio of the medians {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
