"""What `geofix gallery add` makes of the backbone's speed, in images a second from JPEG files to rows in Milvus Lite.

It is compared with the bare backbone on the same cores, whose inputs are decoded before the clock starts, in interleaved pairs.
On a CPU decoding takes time from the same cores: what it leaves of the backbone's speed at best is printed too. A network of the
published model's size is in the bundle that `benchmarks/b4.py` writes (`--bundle`).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from geofix.bundle import Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.store import Store
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.items import Item
from geofix.ingest.sources import Source
from geofix.ingest.stages import Loaded, Prepared, Wanted, prepare_image
from pairs import compare, median_interval
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


def core_ms(work: Callable[[], object], images: int) -> float:
    """Milliseconds of one core an image; the best of three."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken) / images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pixels", type=int, nargs=2, default=(640, 480), help="width and height of the JPEG files")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    networks = LocalNetworks(bundle)
    wanted = Wanted(bundle.manifest.preprocessing)
    with tempfile.TemporaryDirectory(prefix="geofix-build-") as directory:
        table = write_images(Path(directory), options.images, tuple(options.pixels))
        paths = sorted(Path(directory).glob("*.jpg"))
        files = [Loaded(Item(path.name, (0.0, 0.0)), path.name, (0.0, 0.0), path.read_bytes()) for path in paths]
        inputs = [image for file in files if isinstance(image := prepare_image(file, wanted), Prepared)]
        bare(networks, inputs[:32])  # the first passes are slower
        few = min(32, options.images)
        pixels_ms = core_ms(lambda: [prepare_image(file, wanted) for file in files[:few]], few)
        network_ms = core_ms(
            lambda: [networks.features(inputs[i : i + networks.batch]) for i in range(0, few, networks.batch)], few
        )
        with Store(f"{directory}/milvus.db", create=True) as store:
            admin = DirectAdmin(store, bundle)
            turns = itertools.count()

            def add() -> float:
                version = admin.create(f"turn{next(turns)}", options.images).name
                report = Adder(admin, bundle, networks).run(version, Source(table))
                admin.delete(version)
                return report.added / report.seconds

            ratios = compare(
                ("geofix gallery add", "the bare backbone"), (add, lambda: bare(networks, inputs)), options.pairs
            )
    middle, low, high = median_interval(ratios)
    size = "x".join(map(str, options.pixels))
    print(f"{bundle.version}, {options.images} JPEG files of {size}, {networks.workers} cores")
    print(
        f"of one core, an image: decoding and resizing {pixels_ms:.1f} ms, the backbone {network_ms:.1f} ms; "
        f"sharing its cores leaves {network_ms / (network_ms + pixels_ms):.2f} of its speed at best"
    )
    print(
        f"geofix gallery add ÷ the bare backbone: {middle:.2f} ({low:.2f} to {high:.2f}, 95 % interval, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()
