"""The bundle of photographs from the ground: small, without pictures, and silent where it knows nothing."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geofix.bundle import Bundle
from geofix.local import LocalEngine

ROOT = Path(__file__).parents[2]
CITIES = ROOT / "bundles" / "cities"
GROUND = ROOT / "samples" / "ground"
MOST_BYTES = 30_000_000


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine(Bundle.load(CITIES))


def refused(engine: LocalEngine, pictures: Iterable[bytes]) -> float:
    """The share that is answered as not localizable."""
    signals = [engine.decide(engine.heads(engine.feature(picture)[None])[0]).signals for picture in pictures]
    return float(np.mean([not engine.bundle.calibration.localizable(each) for each in signals]))


def test_it_is_small_and_holds_links_and_rounded_places_but_no_picture() -> None:
    assert sum(path.stat().st_size for path in CITIES.iterdir()) <= MOST_BYTES
    gallery = pq.read_table(CITIES / "gallery.parquet")
    assert all(name not in gallery.column_names for name in ("thumbnail", "image"))
    for name in ("lat", "lon"):
        degrees = gallery[name].to_numpy()
        assert np.abs(degrees * 100 - np.round(degrees * 100)).max() < 1e-6
    links = gallery["picture"].to_pylist()
    assert all(link.startswith("https://github.com/") for link in links)
    shown = {
        "/".join(link.split("/")[3:5]) for link in re.findall(r"https://[^)]+", (GROUND / "CREDITS.md").read_text())
    }
    assert len(shown) >= 3
    assert not [link for link in links if "/".join(link.split("/")[3:5]) in shown], "the samples' collections"


@pytest.mark.e2e
def test_the_demo_says_where_it_abstains() -> None:
    line = [Path(sys.executable).parent / "geofix", "demo", GROUND, "--bundle", CITIES]
    done = subprocess.run(list(map(str, line)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    with (GROUND / "truth.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    lines = {name: line for name in names for line in done.stdout.splitlines() if f"{name} " in line}
    assert set(lines) == set(names), done.stdout
    sure = [line for line in lines.values() if "not localizable" not in line]
    off = [float(re.findall(r"([\d,.]+) km", line)[-1].replace(",", "")) for line in sure]
    assert 0 < len(sure) < len(lines), done.stdout
    assert np.mean(np.array(off) <= 200) >= 0.7, done.stdout


@pytest.mark.training
@pytest.mark.parametrize("kind", ["page of text", "screen", "noise"])
def test_drawn_pictures_are_refused(engine: LocalEngine, kind: str) -> None:
    from geofix_training.foreign import draw

    rng, pictures = np.random.default_rng(1), []
    for _ in range(40):
        file = io.BytesIO()
        Image.fromarray(draw(kind, 480, rng)).save(file, "PNG")
        pictures.append(file.getvalue())
    assert refused(engine, pictures) >= 0.9


def test_pictures_from_above_are_refused(engine: LocalEngine, shared_data: Path) -> None:
    paths = sorted((shared_data / "overhead" / "queries").glob("a*"))
    assert refused(engine, (path.read_bytes() for path in paths[::5])) >= 0.9
