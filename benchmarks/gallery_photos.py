"""One's own photographs in a gallery: does another photograph of the same landmark come back first?

A bundle of plain ImageNet features (EfficientNet-Lite0, nothing trained) is made, and all photographs of landmarks are added to
a gallery as `geofix gallery add` does it. Two groups are searched for, inside their cell, as the platform searches, and in the
whole gallery: photographs that show what one of another collection shows, by their local features (same_view.py), and
photographs that are named like one of another collection, whatever the two show (a facade, a hall, the view from the roof). Each
share is printed with that of a random choice. Needs torch, timm and OpenCV (docs/training.md).
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.bundle import BACKBONE, CELLS, CLASSIFIER, EMBEDDER, GALLERY, Bundle, write_manifest
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.gallery.verify import verify
from geofix.geo import distance_km, latlon_to_xyz
from geofix.images import Preprocessing
from geofix.ingest.add import Adder
from geofix.ingest.embed import LocalNetworks
from geofix.ingest.sources import Source
from geofix_training.backbone import load_lite0
from geofix_training.export import export
from same_view import same_view
from started import default_bundle

FEATURE_DIM, SIZE = 1280, 224
SAME_KM = 5.0
"""How far apart two places of one landmark are at most: their coordinates are right to about this."""
MOST_MISSED = 20
"""Photographs before which another place's came are listed up to this number."""


class Pooled(nn.Module):
    """Images (n, 3, h, w) to the pooled features of the last layer, (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_lite0()

    def forward(self, image: Tensor) -> Tensor:
        """One pass."""
        feature: Tensor = self.network.forward_features(image).mean(dim=(2, 3))  # type: ignore[operator]  # timm's
        return feature


class Unit(nn.Module):
    """Features to unit vectors."""

    def forward(self, feature: Tensor) -> Tensor:
        """One pass."""
        return nn.functional.normalize(feature, dim=1)


class Uniform(nn.Module):
    """Features to the same weight for every cell, (n, cells), and a domain score of 0, (n,)."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURE_DIM, cells)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """One pass."""
        return torch.log_softmax(self.linear(feature), dim=1), 0 * feature[:, 0]


def make_bundle(directory: Path) -> Bundle:
    """A bundle whose embedding is the plain feature; its cells are those of the demo bundle."""
    demo = Bundle.load(default_bundle())
    directory.mkdir()
    image, feature = torch.zeros(2, 3, SIZE, SIZE), torch.ones(2, FEATURE_DIM)
    export(Pooled(), image, directory / BACKBONE, ["image"], ["feature"])
    export(
        Uniform(demo.manifest.cell_count), feature, directory / CLASSIFIER, ["feature"], ["log_weights", "domain_score"]
    )
    export(Unit(), feature, directory / EMBEDDER, ["feature"], ["embedding"])
    for name in (CELLS, GALLERY):
        shutil.copyfile(demo.path(name), directory / name)
    write_manifest(
        directory,
        name="plain",
        license="Apache-2.0",
        description="ImageNet features of EfficientNet-Lite0 as they are; it knows no places.",
        preprocessing=Preprocessing(size=SIZE, fit="squash", resample="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3),
        feature_dim=FEATURE_DIM,
        embedding_dim=FEATURE_DIM,
        cell_count=demo.manifest.cell_count,
        decision=demo.manifest.decision,
    )
    return Bundle.load(directory)


@dataclass(frozen=True)
class Photo:
    """What is said of a photograph: where it was taken, who collected it, and the words of its name there."""

    xyz: NDArray[np.float64]
    collection: str
    words: frozenset[str]


def read_landmarks(table: Path) -> tuple[list[dict[str, str]], dict[str, Photo]]:
    """The rows of landmarks, and what each says, by file."""
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["precision"] == "landmark"]
    return rows, {
        row["file"]: Photo(
            latlon_to_xyz(float(row["lat"]), float(row["lon"])),
            row["collection"],
            frozenset(re.findall(r"[^\W\d_]{5,}", re.sub(r"([a-z])([A-Z])", r"\1 \2", Path(row["path"]).stem).lower())),
        )
        for row in rows
    }


def main() -> None:
    """Build, search, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "photos",
        type=Path,
        help="a directory of photographs with truth.csv: file, lat, lon, precision, collection, path",
    )
    options = parser.parse_args()
    photos = options.photos.resolve()
    rows, landmarks = read_landmarks(photos / "truth.csv")
    with tempfile.TemporaryDirectory(prefix="geofix-photos-") as directory:
        bundle = make_bundle(Path(directory) / "bundle")
        table = Path(directory) / "landmarks.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with Store(f"{directory}/milvus.db", create=True) as store:
            admin = DirectAdmin(store, bundle)
            version = admin.create("photos", len(rows)).name
            began = time.monotonic()
            report = Adder(admin, bundle, LocalNetworks(bundle)).run(version, Source(table, photos))
            verify(admin, version, bundle)
            info = admin.promote(version, "")
            print(
                f"{report.added} photographs added in {time.monotonic() - began:.0f} s, left out: {dict(report.skipped)}"
            )
            added = list(all_rows(admin, info))
            compare(Trial(admin, version, added, [landmarks[str(row.fields["file"])] for row in added]), photos)


@dataclass(frozen=True)
class Trial:
    """A gallery of photographs and what is said of them, in the order of its rows."""

    admin: DirectAdmin
    version: str
    rows: list[ImageRow]
    photos: list[Photo]

    @cached_property
    def xyz(self) -> NDArray[np.float64]:
        """Unit vectors of the places, (n, 3)."""
        return np.stack([photo.xyz for photo in self.photos])

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """The cells, (n,)."""
        return np.array([row.cell_id for row in self.rows])

    def file(self, at: int) -> str:
        """The file of a row."""
        return str(self.rows[at].fields["file"])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Photographs of two collections that were taken at one place, and lie in one cell."""
        for at, photo in enumerate(self.photos):
            near = (distance_km(photo.xyz, self.xyz) <= SAME_KM) & (self.cells == self.cells[at])
            for other in map(int, np.flatnonzero(near)):
                if other > at and self.photos[other].collection != photo.collection:
                    yield at, other

    def search(self, group: set[int], name: str) -> None:
        """Search for each of a group, in its cell and everywhere; print the shares, and where another place came first."""
        position = {row.id: at for at, row in enumerate(self.rows)}
        found: dict[str, list[bool]] = {"inside its cell": [], "in the whole gallery": []}
        chance: dict[str, list[float]] = {where: [] for where in found}
        missed: list[str] = []
        for at in sorted(group):
            row = self.rows[at]
            away_km = distance_km(self.xyz[at], self.xyz)
            same = away_km <= SAME_KM
            same[at] = False
            inside = self.cells == row.cell_id
            for where, asked, searched in zip(found, ((row.cell_id,), ()), (inside, np.ones_like(inside)), strict=True):
                hits = self.admin.search(self.version, [(row.embedding, asked, 2)])[0]
                first = next(position[hit.id] for hit in hits if hit.id != row.id)
                found[where].append(bool(same[first]))
                chance[where].append((same & searched).sum() / max(1, searched.sum() - 1))
                if asked and not same[first]:
                    missed.append(f"  {self.file(at)}: {self.file(first)} first, {away_km[first]:.0f} km away")
        print(f"\n{len(group)} photographs {name}")
        for where, each in found.items():
            print(
                f"another photograph within {SAME_KM:g} km comes back first, {where}: {np.mean(each):.1%} "
                f"({sum(each)} of {len(each)}; by chance {np.mean(chance[where]):.1%})"
            )
        if len(missed) <= MOST_MISSED:
            print(*missed, sep="\n")


def compare(trial: Trial, directory: Path) -> None:
    """Find the two groups, and search for both."""
    pairs = list(trial.pairs())
    shown = same_view(directory, [(trial.file(one), trial.file(other)) for one, other in pairs])
    trial.search(
        {at for pair, same in zip(pairs, shown, strict=True) if same for at in pair},
        "that show what a photograph of another collection shows",
    )
    trial.search(
        {at for one, other in pairs if trial.photos[one].words & trial.photos[other].words for at in (one, other)},
        "that a photograph of another collection is named like",
    )


def all_rows(admin: DirectAdmin, info: GalleryInfo) -> Iterator[ImageRow]:
    """All images of a version."""
    for partition in range(info.partitions):
        yield from (read.row for read in admin.read(info.name, partition=partition))


if __name__ == "__main__":
    main()
