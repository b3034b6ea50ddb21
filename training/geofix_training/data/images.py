"""The pixels of an index's rows: from files, URLs and shards, through the preprocessing that serving uses.

Nothing of an image's EXIF is read but its orientation.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geofix.errors import GeofixError, InvalidInput
from geofix.images import Preprocessing, decode, prepare
from geofix_training.data.index import Index
from geofix_training.experiment import BackboneConfig

ASPECT = (3 / 4, 4 / 3)
"""Width over height of a training crop (the usual random resized crop; Szegedy et al. 2015)."""


@dataclass(frozen=True)
class Images:
    """Reads rows as network inputs; what cannot be read is noted in `unreadable`, a CSV that grows by lines."""

    index: Index
    config: BackboneConfig
    unreadable: Path

    def training_input(self, row: int, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """A random crop of a row's image, (3, size, size), or None where it cannot be read."""
        image = self._image(row)
        return None if image is None else _prepared(_crop(image, self.config, rng), self.config.preprocessing)

    def serving_input(self, row: int) -> NDArray[np.float32] | None:
        """A row's image as serving reads it, (3, height, width), or None where it cannot be read."""
        image = self._image(row)
        return None if image is None else prepare(image, self.config.preprocessing)

    def _image(self, row: int) -> Image.Image | None:
        try:
            return decode(self._bytes(row), at_least=self.config.preprocessing.decode_to)
        except (GeofixError, OSError) as error:
            with self.unreadable.open("a", newline="") as file:
                csv.writer(file).writerow([row, self.index.name(row), getattr(error, "message", None) or str(error)])
            return None

    def _bytes(self, row: int) -> bytes:
        name, shard = self.index.name(row), int(self.index.columns["shard"][row])
        if shard >= 0:
            with Path(self.index.meta["shards"][shard]).open("rb") as file:
                file.seek(int(self.index.columns["offset"][row]))
                return file.read(int(self.index.columns["size"][row]))
        if not name:
            raise InvalidInput("the row names no image")
        from geofix.cli.fetch import fetch, is_url

        return fetch(name) if is_url(name) else (Path(self.index.meta["images"]) / name).read_bytes()


def unreadable_rows(path: Path) -> set[int]:
    """The rows that could not be read so far."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {int(line[0]) for line in csv.reader(file) if line}


def _crop(image: Image.Image, config: BackboneConfig, rng: np.random.Generator) -> Image.Image:
    area = image.width * image.height * rng.uniform(*config.crop_scale)
    aspect = np.exp(rng.uniform(*np.log(ASPECT)))
    width = min(image.width, max(1, round(float(np.sqrt(area * aspect)))))
    height = min(image.height, max(1, round(float(np.sqrt(area / aspect)))))
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    crop = image.crop((left, top, left + width, top + height))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if config.flip and rng.random() < 0.5 else crop


def _prepared(crop: Image.Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    return prepare(crop, preprocessing.model_copy(update={"fit": "squash"}))
