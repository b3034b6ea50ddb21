"""One's own photographs in a gallery: does another photograph of the same sight come back first?

A bundle of plain ImageNet features (EfficientNet-Lite0, nothing trained) is made, and all photographs of landmarks are added to a
gallery as `geofix gallery add` does it. Those that show a sight of which another collection has a photograph by the same name are
searched for: inside their cell, as the platform searches, and in the whole gallery. Each share is printed with that of a random
choice. Needs torch and timm (docs/training.md).
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
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
from started import default_bundle

FEATURE_DIM, SIZE = 1280, 224
SAME_KM = 1.0
MOST_PHOTOGRAPHED = 5


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

    def also_named_by(self, other: Photo) -> bool:
        """Whether another collection gives a photograph a name with a word of this one's."""
        return self.collection != other.collection and bool(self.words & other.words)


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
            compare(admin, version, list(all_rows(admin, info)), landmarks)


def compare(admin: DirectAdmin, version: str, gallery: list[ImageRow], landmarks: dict[str, Photo]) -> None:
    """Search for each photograph that two collections name alike, in its cell and everywhere; print the shares."""
    photos = [landmarks[str(row.fields["file"])] for row in gallery]
    position = {row.id: at for at, row in enumerate(gallery)}
    xyz, cell_id = np.stack([photo.xyz for photo in photos]), np.array([row.cell_id for row in gallery])
    found: dict[str, list[bool]] = {"inside its cell": [], "in the whole gallery": []}
    chance: dict[str, list[float]] = {name: [] for name in found}
    sights: dict[bytes, list[bool]] = defaultdict(list)
    for at, row in enumerate(gallery):
        same = distance_km(xyz[at], xyz) <= SAME_KM
        same[at] = False
        if not any(photos[at].also_named_by(photos[other]) for other in np.flatnonzero(same)):
            continue
        inside = cell_id == row.cell_id
        for name, cells, searched in zip(found, ((row.cell_id,), ()), (inside, np.ones_like(inside)), strict=True):
            hits = [hit for hit in admin.search(version, [(row.embedding, cells, 2)])[0] if hit.id != row.id]
            found[name].append(bool(hits) and bool(same[position[hits[0].id]]))
            chance[name].append((same & searched).sum() / max(1, searched.sum() - 1))
        sights[xyz[at].tobytes()].append(found["inside its cell"][-1])
    print(
        f"{len(found['inside its cell'])} photographs of {len(sights)} sights, which two collections or more name alike"
    )
    for name, each in found.items():
        print(
            f"another photograph within {SAME_KM:g} km comes back first, {name}: {np.mean(each):.1%} "
            f"(by chance {np.mean(chance[name]):.1%})"
        )
    most = [each for each in sights.values() if len(each) >= MOST_PHOTOGRAPHED]
    print(
        f"{len(most)} sights with {MOST_PHOTOGRAPHED} such photographs or more: inside the cell it comes first for at least half "
        f"of their photographs at {sum(np.mean(each) >= 0.5 for each in most)}"
    )


def all_rows(admin: DirectAdmin, info: GalleryInfo) -> Iterator[ImageRow]:
    """All images of a version."""
    for partition in range(info.partitions):
        yield from (read.row for read in admin.read(info.name, partition=partition))


if __name__ == "__main__":
    main()
