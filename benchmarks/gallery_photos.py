"""One's own photographs in a gallery: does another photograph of the same sight come back first?

A bundle of plain ImageNet features (EfficientNet-Lite0, nothing trained) is made, photographs of landmarks are added to a gallery
as `geofix gallery add` does it, and each is searched for: the share whose nearest other photograph was taken at the same place
is printed, with the share that a random choice would have. Needs torch and timm (docs/training.md).
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch
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


def choose(photos: Path, most: int) -> list[dict[str, str]]:
    """Photographs of named sights of which there are two or more, whole sights at a time."""
    sights: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with (photos / "truth.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["precision"] == "landmark":
                sights[row["lat"], row["lon"]].append(row)
    chosen: list[dict[str, str]] = []
    for sight in sorted(sights.values(), key=lambda rows: rows[0]["file"]):
        if len(sight) >= 2 and len(chosen) + len(sight) <= most:
            chosen += sight
    return chosen


def main() -> None:
    """Build, search, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "photos", type=Path, help="a directory of photographs with truth.csv: file, lat, lon, precision"
    )
    parser.add_argument("--most", type=int, default=2_000)
    options = parser.parse_args()
    photos = options.photos.resolve()
    chosen = choose(photos, options.most)
    with tempfile.TemporaryDirectory(prefix="geofix-photos-") as directory:
        bundle = make_bundle(Path(directory) / "bundle")
        table = Path(directory) / "chosen.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(chosen[0]))
            writer.writeheader()
            writer.writerows(chosen)
        with Store(f"{directory}/milvus.db", create=True) as store:
            admin = DirectAdmin(store, bundle)
            version = admin.create("photos", len(chosen)).name
            began = time.monotonic()
            report = Adder(admin, bundle, LocalNetworks(bundle)).run(version, Source(table, photos))
            verify(admin, version, bundle)
            info = admin.promote(version, "")
            print(
                f"{report.added} photographs added in {time.monotonic() - began:.0f} s, left out: {dict(report.skipped)}"
            )
            same = [_first_is_of_the_same_sight(admin, version, row) for row in rows(admin, info)]
    sights: dict[tuple[str, str], int] = defaultdict(int)
    for photo in chosen:
        sights[photo["lat"], photo["lon"]] += 1
    chance = sum(n * (n - 1) for n in sights.values()) / (len(chosen) * (len(chosen) - 1))
    print(f"{len(chosen)} photographs of {len(sights)} sights, each shown at least twice")
    print(
        f"another one within {SAME_KM:g} km comes back first for {sum(same) / len(same):.1%} (by chance {chance:.2%})"
    )


def rows(admin: DirectAdmin, info: GalleryInfo) -> Iterator[ImageRow]:
    """All images of a version."""
    for partition in range(info.partitions):
        yield from (read.row for read in admin.read(info.name, partition=partition))


def _first_is_of_the_same_sight(admin: DirectAdmin, version: str, row: ImageRow) -> bool:
    hits = [hit for hit in admin.search(version, [(row.embedding, (), 2)])[0] if hit.id != row.id]
    return float(distance_km(latlon_to_xyz(row.lat, row.lon), latlon_to_xyz(hits[0].lat, hits[0].lon))) <= SAME_KM


if __name__ == "__main__":
    main()
