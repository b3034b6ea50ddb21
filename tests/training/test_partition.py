"""The adaptive partition, against outputs of the published reference and by its own promises."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s2cell

from geofix.errors import InvalidInput
from geofix.geo import distance_km, haversine_km, latlon_to_xyz
from geofix_training.partition import MAX_LEVEL, Partition, StopRule, component_means, make_cells, split

DATA = Path(__file__).parents[1] / "data"


def read_points(name: str) -> tuple[list[str], list[float], list[float]]:
    with (DATA / name).open(newline="") as file:
        rows = [(row["image_id"], float(row["lat"]), float(row["lon"])) for row in csv.DictReader(file)]
    ids, lats, lons = zip(*rows, strict=True)
    return list(ids), list(lats), list(lons)


@pytest.mark.parametrize("name", ["partition_im2gps3k.json", "partition_yfcc4k.json"])
def test_the_published_partition(name: str) -> None:
    golden: dict[str, Any] = json.loads((DATA / name).read_text())
    max_images, max_cells = map(int, re.findall(r"[<>]= (\d+)", golden["stop"]))
    ids, lats, lons = read_points(golden["points"])
    rule = StopRule(max_images, max_cells, golden["max_level"])
    partition = split(lats, lons, rule, golden["min_images"])
    found = component_means(partition, lats, lons, "reference")
    wanted = np.array(golden["means"])
    assert len(found) == golden["n_cells"]
    by_place = np.lexsort(found.round(5).T), np.lexsort(wanted.round(5).T)
    assert found[by_place[0]] == pytest.approx(wanted[by_place[1]], abs=1e-6)
    kept = {ids[row] for rows in partition.members for row in rows}
    assert len({ids[row] for row in partition.dropped} - kept) == golden["n_dropped_images"]


def test_every_point_is_in_its_cell_or_dropped() -> None:
    _, lats, lons = read_points("im2gps3k.csv")
    partition = split(lats, lons, StopRule(50, 10**9), 5)
    rows = np.concatenate([*partition.members, partition.dropped])
    assert np.array_equal(np.sort(rows), np.arange(len(lats)))
    for s2_id, members in zip(partition.s2_ids, partition.members, strict=True):
        level = s2cell.cell_id_to_level(s2_id)
        assert {s2cell.lat_lon_to_cell_id(lats[row], lons[row], level) for row in members} == {s2_id}


def test_identical_places_end_the_splitting() -> None:
    partition = split([10.0] * 100, [20.0] * 100, StopRule(1, 10**9), 1)
    assert [len(rows) for rows in partition.members] == [100]
    assert s2cell.cell_id_to_level(partition.s2_ids[0]) <= MAX_LEVEL


def test_too_few_images_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="lower min_images or add images"):
        split([10.0, 50.0], [20.0, 60.0], StopRule(1, 10), 5)


def across_the_antimeridian() -> tuple[Partition, list[float], list[float]]:
    lats, lons = [0.5, 0.5, 0.5, 0.5], [179.9, 179.8, -179.9, -179.8]
    return split(lats, lons, StopRule(4, 1), 1), lats, lons


def test_degree_means_fail_at_the_antimeridian_and_ours_do_not() -> None:
    partition, lats, lons = across_the_antimeridian()
    whole = Partition((partition.s2_ids[0],), (np.arange(4),), np.empty(0, np.int64))
    assert component_means(whole, lats, lons, "reference")[0] == pytest.approx([0.5, 0.0], abs=1e-9)
    lat, lon = component_means(whole, lats, lons, "geofix")[0]
    assert haversine_km(lat, lon, 0.5, 180.0) < 0.1


def test_cells_fit_their_points() -> None:
    _, lats, lons = read_points("im2gps3k.csv")
    partition = split(lats, lons, StopRule(50, 10**9), 5)
    cells = make_cells(partition, lats, lons)
    xyz = latlon_to_xyz(np.array(lats), np.array(lons))
    assert cells.images.tolist() == [len(rows) for rows in partition.members]
    for mean, kappa, rows in zip(cells.xyz, cells.kappa, partition.members, strict=True):
        spread_km = 6371 * np.sqrt(2 / kappa)
        assert spread_km >= 29
        assert np.median(distance_km(xyz[rows], mean)) <= 1.5 * spread_km
