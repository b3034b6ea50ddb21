"""The work folder of an experiment: what each stage leaves for the next."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from geofix import bundle as files
from geofix.cells import Cells
from geofix.errors import ConfigurationError, InvalidInput
from geofix_training.data.index import Index
from geofix_training.data.parts import Part
from geofix_training.experiment import Experiment


@dataclass(frozen=True)
class Work:
    """A folder that `partition` has claimed for one experiment over one collection."""

    folder: Path

    @classmethod
    def claim(cls, folder: Path, experiment: Experiment, source: dict[str, Any]) -> Work:
        """The folder for an experiment; made if it is new.

        Raises:
            ConfigurationError: it belongs to another experiment or collection.
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"experiment": experiment.model_dump(mode="json"), "source": source}, indent=1) + "\n"
        path = folder / "experiment.json"
        if path.exists() and path.read_text() != text:
            raise ConfigurationError(
                f"{folder} holds the work of another experiment or collection: name another --work folder"
            )
        partial = folder / "experiment.json.partial"
        partial.write_text(text)
        partial.replace(path)
        return cls(folder)

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment.

        Raises:
            ConfigurationError: nothing has claimed the folder, or another version has, whose settings were other ones.
        """
        path = self.folder / "experiment.json"
        if not path.is_file():
            raise ConfigurationError(f"{self.folder} is no work folder: run geofix-train partition first")
        try:
            return Experiment.model_validate(json.loads(path.read_text())["experiment"])
        except ValidationError as error:
            raise ConfigurationError(
                f"{self.folder} holds the work of another version of geofix: name another --work folder"
            ) from error

    @cached_property
    def index(self) -> Index:
        """The collection."""
        return Index.open(self.folder / "index")

    @cached_property
    def parts(self) -> NDArray[np.uint8]:
        """The part of each row."""
        return np.asarray(np.load(self.folder / "parts.npy", mmap_mode="r"))

    @cached_property
    def cells(self) -> Cells:
        """The partition."""
        path = self.folder / files.CELLS
        if not path.is_file():
            raise InvalidInput(f"{self.folder} holds no cells: run geofix-train partition first")
        return Cells.read(path)

    def rows(self, part: Part) -> NDArray[np.int64]:
        """The rows of a part, rising."""
        return np.flatnonzero(self.parts == part)

    @property
    def features(self) -> Path:
        """The features of all rows: float16, (rows, d); rows without one are NaN."""
        return self.folder / "features.npy"

    @property
    def depths(self) -> Path:
        """The weights of a backbone that stays as it is."""
        return self.folder / "depths.pt"

    @property
    def statistics(self) -> Path:
        """What that backbone says of all rows: float16, (rows, r); rows without an image are NaN."""
        return self.folder / "statistics.npy"

    @property
    def plain(self) -> Path:
        """What the baseline of a cross-validation searches by: float16, (rows, c)."""
        return self.folder / "plain.npy"

    @property
    def maps(self) -> Path:
        """What layers that are taught start from, of all rows: float16, (rows, c · h · w)."""
        return self.folder / "maps.npy"

    @property
    def taught(self) -> Path:
        """What those layers then say of all rows: float16 unit vectors, (rows, e)."""
        return self.folder / "taught.npy"

    @property
    def white(self) -> Path:
        """The whitening that makes features of them."""
        return self.folder / "white.pt"

    @property
    def folds(self) -> Path:
        """What a cross-validation found, as JSON."""
        return self.folder / "folds.json"

    @property
    def unreadable(self) -> Path:
        """A CSV of the images that could not be read: row, name, why."""
        return self.folder / "unreadable.csv"

    def save_parts(self, parts: NDArray[np.uint8]) -> None:
        """Set the part of each row, (n,)."""
        save_array(self.folder / "parts.npy", parts)

    def stage(self, name: str) -> Path:
        """The folder of a stage's checkpoints and log."""
        return self.folder / name


def rows_with_features(work: Work, features: NDArray[np.float16], part: Part) -> NDArray[np.int64]:
    """The rows of a part whose image could be read."""
    rows = work.rows(part)
    return np.asarray(rows[np.isfinite(features[rows, 0])])


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write it whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)
