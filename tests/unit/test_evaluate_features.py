"""`geofix evaluate --features` and `--ablate`, in this process over a small bundle."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bundle_factory import image_of, make_bundle
from geofix.ablation import variants
from geofix.bundle import Bundle
from geofix.cli.app import app
from geofix.decision import Strategy
from geofix.features import Features
from geofix.geo import normalise, xyz_to_latlon
from geofix.local import LocalEngine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"), takes="feature")


@pytest.fixture(scope="module")
def given(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of 24 places, two of each, as the same bundle with a backbone makes them."""
    folder = tmp_path_factory.mktemp("features")
    engine = LocalEngine(make_bundle(folder / "images"))
    lat, lon = xyz_to_latlon(normalise(np.random.default_rng(4).normal(size=(24, 3))))
    feature = np.stack([engine.feature(image_of(a, o)) for a, o in zip(lat.tolist(), lon.tolist(), strict=True)])
    rows = np.repeat(np.arange(24), 2)
    ids = np.arange(48).astype(str)
    Features(feature[rows], lat[rows], lon[rows], ids, rows.astype(str)).write(folder / "f.npz")
    return folder / "f.npz"


def evaluate(*words: str | Path | int) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_features_are_evaluated_by_every_strategy_with_intervals(bundle: Bundle, given: Path) -> None:
    ran = evaluate("--features", given, "--bundle", bundle.directory, "--json")
    assert ran.exit_code == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert (record["n"], record["failed"]) == (48, 0)
    for found in (record, record["classification"], record["retrieval"], record["swc"]):
        low, high = found["intervals"]["within"]["750"]
        assert low <= found["within"]["750"] <= high
        assert found["median_km"] < 3000  # a random place is 10,000 km off
    continents = record["by_continent"]
    assert sum(found["n"] for found in continents.values()) == 48
    assert len(continents) >= 3
    radii = [found["n"] * found["coverage"]["90"] for found in continents.values()]
    assert sum(radii) / 48 == pytest.approx(record["coverage"]["90"], abs=0.01)
    assert record["risk_coverage"]["right"]["100"] == pytest.approx(record["within"]["200"], abs=0.01)
    shown = evaluate("--features", given, "--bundle", bundle.directory, "--limit", 9)
    assert "images answered, surest first" in shown.stdout
    assert "95 % intervals by bootstrap over places" in shown.stdout
    assert "within 0.1 km" in shown.stdout
    assert "default, truths in" in shown.stdout
    alone = json.loads(evaluate("--features", given, "--bundle", bundle.directory, "--default-only", "--json").stdout)
    assert alone["within"] == record["within"]
    assert alone["coverage"] == record["coverage"]
    assert "swc" not in alone
    assert alone["gain_over_classification"] is None


def test_the_ablation_is_written_whole(bundle: Bundle, given: Path, tmp_path: Path) -> None:
    ran = evaluate("--features", given, "--bundle", bundle.directory, "--limit", 12, "--ablate", tmp_path / "out")
    assert ran.exit_code == 0, ran.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    names = [one["name"] for one in report["configurations"]]
    assert names == [variant.name for variant in variants(bundle.manifest.decision)]
    assert {one["kind"] for one in report["configurations"]} == {"paper", "ours"}
    assert report["n"] == 12
    gains = {one["name"]: one["gain_over_published"] for one in report["configurations"]}
    assert gains["SwC, 1 cell, k 10, eps 1 km"]["200"] == {"within_km": 200, "points": 0, "low": 0, "high": 0}
    for name, km in itertools.product(names, (200, 750)):
        within = {one["name"]: one["within"][str(km)] for one in report["configurations"]}
        gain = gains[name][str(km)]
        assert gain["points"] == pytest.approx(within[name] - within["SwC, 1 cell, k 10, eps 1 km"], abs=0.01)
        assert gain["low"] <= gain["points"] <= gain["high"]
    table = (tmp_path / "out/report.md").read_text()
    assert all(f"| {name} |" in table for name in names)
    for figure in ("accuracy.svg", "errors.svg"):
        assert (tmp_path / "out" / figure).read_text().startswith("<?xml")


def test_variants_are_the_strategies_where_they_are_the_same(bundle: Bundle, given: Path) -> None:
    engine = LocalEngine(bundle)
    with np.load(given) as data:
        heads = engine.heads(data["features"][:6])
    found = {variant.name: variant for variant in variants(bundle.manifest.decision)}
    for head in heads:
        assert found["default"].estimate(engine, head) == pytest.approx(engine.decide(head).xyz)
        cells = engine.decide(head, Strategy.CLASSIFICATION).xyz
        assert found["classification"].estimate(engine, head) == pytest.approx(cells)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--images", "x"),
        ("--features", "x", "--truth", "y"),
        ("--images", "x", "--truth", "y", "--benchmark", "im2gps"),
    ],
)
def test_what_is_asked_about_is_named_once(words: tuple[str, ...]) -> None:
    ran = evaluate(*words)
    assert ran.exit_code == 2
    assert "--images with --truth" in " ".join(ran.stderr.replace("│", " ").split())


def test_an_ablation_needs_a_bundle(given: Path, tmp_path: Path) -> None:
    assert evaluate("--features", given, "--ablate", tmp_path / "out").exit_code == 2
