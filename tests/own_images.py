"""A user's own images for tests: many small distinct pictures that a tiny bundle places, with a table of where they are."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bundle_factory import SIZE, image_of
from geofix.bundle import BACKBONE, Bundle
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.rows import ImageRow
from geofix.geo import latlon_to_xyz
from geofix.ingest.report import Report
from geofix.onnx import OnnxSession

IMAGES = 240
Adding = Callable[..., Report]
"""Adds a source to a version of that name, with `AddOptions` by their names."""


def places(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes, uniform on the sphere."""
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)


def write_images(directory: Path, count: int, seed: int = 0) -> Path:
    """`count` PNG files and a table of them; returns the table."""
    directory.mkdir(parents=True, exist_ok=True)
    lats, lons = places(count, seed)
    with (directory / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "lat", "lon", "url", "title", "licence"])
        for index, (lat, lon) in enumerate(zip(lats, lons, strict=True)):
            name = f"{index:05d}.png"
            image = Image.open(io.BytesIO(image_of(lat, lon)))
            image.putpixel((0, 0), (index % 256, index // 256, seed))  # so that no two have the same bytes
            image.save(directory / name)
            table.writerow([name, f"{lat:.6f}", f"{lon:.6f}", f"https://example.org/{index}", f"Bild № {index}", "CC0"])
    return directory / "images.csv"


def write_features(path: Path, bundle: Bundle, count: int) -> Path:
    """A Parquet table of backbone features, as one has that embeds on premises of one's own."""
    lats, lons = places(count, 1)
    xyz = latlon_to_xyz(lats, lons).astype(np.float32)
    backbone = OnnxSession(bundle.path(BACKBONE))
    features = np.concatenate(
        [
            backbone.run(np.broadcast_to(part[:, :, None, None], (len(part), 3, SIZE, SIZE)))["feature"]
            for part in np.array_split(xyz, max(1, count // 500))
        ]
    )
    table = pa.table({"id": [f"f{i:06d}" for i in range(count)], "lat": lats, "lon": lons, "feature": list(features)})
    pq.write_table(table, path)
    return path


def first_row(admin: DirectAdmin, version: str) -> ImageRow:
    """Any row of a version."""
    return next(page[0].row for p in range(64) if (page := admin.read(version, partition=p, limit=1)))
