"""Writes shared/geofix/data/benchmarks.npz: image ids and places of the published test sets, from their CSV files.

python tools/make_benchmarks.py DIR     # DIR holds im2gps.csv, im2gps3k.csv, yfcc4k.csv, yfcc25k.csv (image_id, lat, lon)
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from geofix.benchmarks import BENCHMARKS, MICRODEGREES

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path) -> None:
    """Write the file; ids as integers, places as whole millionths of a degree, which is what the files give."""
    arrays = {}
    for name in BENCHMARKS:
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = [(int(Path(r["image_id"]).stem), float(r["lat"]), float(r["lon"])) for r in csv.DictReader(file)]
        arrays[f"{name}_id"] = np.array([row[0] for row in rows], np.int64)
        arrays[f"{name}_place"] = np.round(np.array([row[1:] for row in rows]) * MICRODEGREES).astype(np.int32)
    np.savez_compressed(ROOT / "shared/geofix/data/benchmarks.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
