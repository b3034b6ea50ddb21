"""The published test sets of photo geolocation: where their images were taken. The images themselves are their photographers'.

Im2GPS (Hays and Efros 2008, 237 images), Im2GPS3k and YFCC4k (Vo et al. 2017, 2,997 and 4,536), YFCC25k (Theiner et al.
2022, 23,035).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from geofix.errors import InvalidInput

BENCHMARKS = ("im2gps", "im2gps3k", "yfcc4k", "yfcc25k")
MICRODEGREES = 1e6
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def benchmark_places(name: str) -> dict[str, tuple[float, float]]:
    """Image id (Flickr's, digits) -> (lat, lon) in degrees.

    Raises:
        InvalidInput: there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise InvalidInput(f"there is no benchmark {name}: {', '.join(BENCHMARKS)}")
    with (
        (resources.files("geofix") / "data/benchmarks.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as data,
    ):
        places = data[f"{name}_place"] / MICRODEGREES
        return {str(i): (float(a), float(o)) for i, (a, o) in zip(data[f"{name}_id"], places, strict=True)}


def benchmark_images(name: str, directory: Path) -> dict[Path, tuple[float, float]]:
    """The benchmark's images in a directory, named by their id (`104123223.jpg`) or by it and more (`104123223_7410c654ba.jpg`).

    An image that is not there stands as `<id>.jpg`, so that it counts as a miss.

    Raises:
        InvalidInput: none of them is there.
    """
    found = {path.stem.split("_")[0]: path for path in sorted(directory.rglob("*")) if path.suffix.lower() in SUFFIXES}
    places = benchmark_places(name)
    if not found.keys() & places.keys():
        raise InvalidInput(
            f"{directory} holds no image of {name}: their names begin with their ids, such as {next(iter(places))}.jpg"
        )
    return {found.get(image, directory / f"{image}.jpg"): place for image, place in places.items()}
