"""The sample images of `make demo`: eight well-known places from above, cut from a rendition the model was not trained on."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from geofix_training.crops import View, render
from geofix_training.raster import Raster

PLACES = {
    "nile-delta": View(30.6, 31.2, 700.0, 6.0),
    "italy": View(41.8, 13.4, 1100.0, -5.0),
    "florida": View(27.9, -81.9, 900.0, 10.0),
    "lake-victoria": View(-1.0, 33.0, 800.0, -8.0),
    "tasmania": View(-42.0, 146.6, 700.0, 4.0),
    "hokkaido": View(43.3, 142.6, 800.0, -12.0),
    "atacama": View(-23.5, -68.9, 900.0, 0.0),
    "sri-lanka": View(7.9, 80.7, 800.0, 9.0),
}
"""Chosen by name, before any answer was known."""

SIZE = 320


def write_samples(raster: Raster, folder: Path) -> None:
    """Write one JPEG a place and `truth.csv` (file, lat, lon)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "lat", "lon"])
        for name, view in PLACES.items():
            Image.fromarray(render(raster, view, SIZE)).save(folder / f"{name}.jpg", quality=90)
            table.writerow([f"{name}.jpg", view.lat, view.lon])
