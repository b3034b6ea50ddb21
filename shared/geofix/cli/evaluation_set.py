"""What `geofix evaluate` asks about: images with a table of truths, a published benchmark, or a file of features."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from os.path import isdir, isfile  # those of Path raise where a directory may not be entered
from pathlib import Path

from geofix.cli.inputs import Input, file_input
from geofix.errors import InvalidInput
from geofix.truth import read_truth

Place = tuple[float, float]


@dataclass(frozen=True)
class EvaluationSet:
    """n questions, where each was taken (degrees), what belongs together in a bootstrap, and whether they are features."""

    inputs: list[Input]
    places: list[Place]
    groups: list[str]
    features: bool = False

    def first(self, count: int | None) -> EvaluationSet:
        """The first of them."""
        return EvaluationSet(self.inputs[:count], self.places[:count], self.groups[:count], self.features)


def from_table(images: Path, truth: Path, pattern: str) -> EvaluationSet:
    """The images that a table of truths names.

    Raises:
        InvalidInput: there are none, or one that the table names is not there.
    """
    if not isdir(images):
        raise InvalidInput(f"{images} is not a directory")
    places = {name: place for name, place in read_truth(truth).items() if fnmatchcase(name, pattern)}
    if not places:
        raise InvalidInput(f"{truth} names no image" + ("" if pattern == "*" else f" that matches {pattern!r}"))
    missing = [name for name in places if not isfile(images / name)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InvalidInput(f"{truth} names {missing[0]}, and there is no such image in {images}{more}")
    return _by_place({images / name: place for name, place in places.items()})


def from_benchmark(name: str, images: Path) -> EvaluationSet:
    """The images of a published benchmark; those that are not there count as misses.

    Raises:
        InvalidInput: none is there.
    """
    from geofix.benchmarks import benchmark_images

    if not isdir(images):
        raise InvalidInput(f"{images} is not a directory")
    return _by_place(benchmark_images(name, images))


def from_features(path: Path) -> EvaluationSet:
    """Features in place of images, grouped as their file says.

    Raises:
        InvalidInput: it is no such file.
    """
    from geofix.features import read_features
    from geofix.vectors import pack_vector

    found = read_features(path)
    inputs = [
        Input(f"{path}:{name}", partial(pack_vector, row)) for name, row in zip(found.ids, found.feature, strict=True)
    ]
    places = list(zip(found.lat.tolist(), found.lon.tolist(), strict=True))
    return EvaluationSet(inputs, places, found.group.tolist(), features=True)


def _by_place(images: dict[Path, Place]) -> EvaluationSet:
    groups = [f"{lat:.3f},{lon:.3f}" for lat, lon in images.values()]  # some 100 m
    return EvaluationSet([file_input(path) for path in images], list(images.values()), groups)
