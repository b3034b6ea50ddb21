"""`geofix evaluate` as people and scripts use it: a real process that asks a real platform."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest

from command import PLACES, Ran, Record, Word, geofix
from geofix import __version__
from geofix.bundle import Bundle
from geofix.platform.ports import free_ports

pytestmark = pytest.mark.e2e


def evaluated(*words: Word) -> Record:
    ran = geofix("evaluate", "--json", *words)
    assert ran.code == 0, ran.err
    (record,) = ran.records
    return record


def table_of(directory: Path, content: str) -> Path:
    path = directory / "table.csv"
    path.write_text("file,lat,lon\n" + content)
    return path


@pytest.fixture(scope="module")
def measured(server: str, photos: Path) -> Record:
    return evaluated("--server", server, "--images", photos, "--truth", photos / "truth.csv")


def test_the_measures_are_those_of_the_answers(measured: Record, located: Ran) -> None:
    errors = [record["distance_km"] for record in located.records]
    sure = [record for record in located.records if record["localizable"]]
    assert (measured["n"], measured["failed"], measured["localizable"]) == (4, 0, 3)
    for km in (0.1, 1, 25, 200, 750, 2500):
        assert measured["within"][f"{km:g}"] == 100 * sum(error <= km for error in errors) / 4
    assert measured["median_km"] == pytest.approx(statistics.median(errors), rel=1e-4)
    assert measured["mean_km"] == pytest.approx(statistics.fmean(errors), rel=1e-4)
    assert 0 < measured["geoscore"] < 5000
    inside = sum(record["distance_km"] <= record["radius_km"] for record in sure)
    assert measured["coverage"]["90"] == pytest.approx(100 * inside / 3, abs=1e-3)
    assert measured["median_radius_km"] == 1000
    for strategy in ("classification", "retrieval", "swc"):
        assert measured[strategy]["n"] == 4
        assert measured[strategy]["median_radius_km"] is None
        assert measured[strategy]["mean_km"] != measured["mean_km"]


def test_server_and_bundle_agree(bundle: Bundle, photos: Path, measured: Record) -> None:
    words = ("--bundle", bundle.directory, "--images", photos, "--truth", photos / "truth.csv")
    alone = evaluated(*words)
    assert_same(alone, measured)


def assert_same(one: Record, other: Record) -> None:
    assert one.keys() == other.keys()
    for key in one.keys() - {"seconds"}:
        if isinstance(one[key], dict):
            assert_same(one[key], other[key])
        else:
            assert one[key] == (None if other[key] is None else pytest.approx(other[key], rel=1e-4)), key


def test_a_failed_image_is_a_miss(server: str, photos: Path, measured: Record, tmp_path: Path) -> None:
    for name in [*PLACES, "grey.png"]:
        shutil.copy(photos / name, tmp_path)
    (tmp_path / "broken.jpg").write_text("not an image")
    truth = table_of(tmp_path, (photos / "truth.csv").read_text().partition("\n")[2] + "broken.jpg,0,0\n")
    ran = geofix("evaluate", "--json", "--server", server, "--images", tmp_path, "--truth", truth)
    (found,) = ran.records
    assert ran.code == 0
    assert "broken.jpg" in ran.err
    assert (found["n"], found["failed"], found["localizable"]) == (5, 1, 3)
    assert 5 * found["mean_km"] == pytest.approx(4 * measured["mean_km"] + 20_015, abs=0.1)
    assert 5 * found["geoscore"] == pytest.approx(4 * measured["geoscore"], abs=0.1)
    assert found["coverage"] == measured["coverage"]


def test_a_not_localizable_answer_counts_with_its_guess(server: str, photos: Path, located: Ran) -> None:
    words = ("--server", server, "--images", photos, "--truth", photos / "truth.csv", "--files", "grey*")
    found = evaluated(*words)
    assert (found["n"], found["failed"], found["localizable"]) == (1, 0, 0)
    assert found["median_km"] == pytest.approx(located.records[-1]["distance_km"], rel=1e-4)
    assert set(found["coverage"].values()) == {None}
    assert found["median_radius_km"] is None


def test_the_table_of_measures(server: str, photos: Path, measured: Record) -> None:
    ran = geofix("evaluate", "--server", server, "--images", photos, "--truth", photos / "truth.csv")
    assert (ran.code, ran.err) == (0, "")
    for strategy in ("posterior (default)", "classification", "retrieval", "swc"):
        assert strategy in ran.out
    assert f"{measured['median_km']:,.1f} km" in ran.row("median error")
    assert f"{measured['geoscore']:,.0f}" in ran.row("GeoScore")
    assert f"{measured['coverage']['90']:.1f} %" in ran.row("truths inside the 90 % radius")
    assert "4 images, " in ran.out


def test_only_some_images(server: str, photos: Path) -> None:
    words = ("--server", server, "--images", photos, "--truth", photos / "truth.csv")
    assert evaluated(*words, "--limit", "2")["n"] == 2
    assert evaluated(*words, "--files", "*p*.png", "--limit", "9")["n"] == 1


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("alps.png,47,10\nsydney.jpg,-33,east\n", "line 3: lon is 'east'"),
        ("alps.png,147,10\n", "line 2: lat is 147, beyond ±90 degrees; are lat and lon swapped?"),
        ("alps.png,47,10\nalps.png,47,10\n", "line 3: alps.png was named before"),
        ("alps.png,47,10\nabsent.png,0,0\n", "names absent.png, and there is no such image in"),
        (f"{'d' * 300}/alps.png,47,10\n", "there is no such image in"),
        ("", "names no image"),
    ],
)
def test_an_unusable_truth_is_usage_and_names_its_line(
    server: str, photos: Path, tmp_path: Path, rows: str, problem: str
) -> None:
    truth = table_of(tmp_path, rows)
    ran = geofix("evaluate", "--json", "--server", server, "--images", photos, "--truth", truth)
    assert (ran.code, ran.out) == (2, "")
    assert str(truth) in ran.err
    assert problem in ran.err


def test_no_answer_at_all_is_a_failure(server: str, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("not an image")
    truth = table_of(tmp_path, "broken.jpg,0,0\n")
    ran = geofix("evaluate", "--json", "--server", server, "--images", tmp_path, "--truth", truth)
    assert ran.code == 1
    (found,) = ran.records
    assert found["failed"] == found["n"] == 1


def test_nothing_to_ask_is_an_error_and_not_a_miss(photos: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--json", "--images", photos, "--truth", photos / "truth.csv")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    down = geofix(*words, "--server", address)
    assert (down.code, down.out) == (1, "")
    assert address in down.err
    wrong = geofix(*words, "--bundle", tmp_path)
    assert (wrong.code, wrong.out) == (1, "")
    assert f"bundle {tmp_path}: there is no bundle.json in it" in wrong.err


def test_version() -> None:
    ran = geofix("version")
    assert (ran.code, ran.out, ran.err) == (0, f"geofix {__version__}\n", "")
