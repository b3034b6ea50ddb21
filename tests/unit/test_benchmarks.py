"""The published test sets: how many images, where, and under which names they are found."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from geofix.benchmarks import benchmark_images, benchmark_places
from geofix.cli.evaluation_set import from_benchmark
from geofix.errors import InvalidInput

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(("name", "count"), [("im2gps", 237), ("im2gps3k", 2997), ("yfcc4k", 4536), ("yfcc25k", 23035)])
def test_they_are_whole(name: str, count: int) -> None:
    places = benchmark_places(name)
    assert len(places) == count
    assert all(abs(lat) <= 90 and abs(lon) <= 180 for lat, lon in places.values())


@pytest.mark.parametrize("name", ["im2gps3k", "yfcc4k"])
def test_places_are_the_published_ones(name: str) -> None:
    with (DATA / f"{name}.csv").open(newline="") as file:
        wanted = {Path(r["image_id"]).stem: (float(r["lat"]), float(r["lon"])) for r in csv.DictReader(file)}
    found = benchmark_places(name)
    assert found.keys() == wanted.keys()
    assert all(found[image] == pytest.approx(place, abs=1e-9) for image, place in wanted.items())


def test_images_are_found_by_their_ids_and_absent_ones_are_misses(tmp_path: Path) -> None:
    first, second, *_ = benchmark_places("im2gps")
    (tmp_path / "deep").mkdir()
    (tmp_path / f"{first}_7410c654ba_19_me@N00.JPG").touch()
    (tmp_path / "deep" / f"{second}.png").touch()
    found = benchmark_images("im2gps", tmp_path)
    assert len(found) == 237
    assert [path.name for path in found if path.exists()] == [f"{first}_7410c654ba_19_me@N00.JPG", f"{second}.png"]
    asked = from_benchmark("im2gps", tmp_path)
    assert len(asked.inputs) == len(asked.places) == len(asked.groups) == 237
    with pytest.raises(InvalidInput, match="no such file"):
        asked.inputs[5].read()


def test_what_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no benchmark gws15k: im2gps, im2gps3k, yfcc4k, yfcc25k"):
        benchmark_places("gws15k")
    with pytest.raises(InvalidInput, match="holds no image of im2gps: their names begin with their ids"):
        benchmark_images("im2gps", tmp_path)
