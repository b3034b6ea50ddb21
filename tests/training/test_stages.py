"""From features to a bundle, stage by stage, in this process; and what each stage says of bad input."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geofix.bundle import MODEL_CARD, Bundle
from geofix.decision import Strategy
from geofix.errors import ConfigurationError, InvalidInput
from geofix.features import read_features
from geofix.geo import distance_km, latlon_to_xyz
from geofix.local import LocalEngine
from geofix_training.backbone import declare_torchvision_operators
from geofix_training.cli import CONFIGS
from geofix_training.data.parts import Part
from geofix_training.engine import checkpoint
from geofix_training.engine.processes import Processes
from geofix_training.experiment import BackboneConfig, read_experiment
from geofix_training.networks import TimmBackbone
from geofix_training.stages.calibrate import run_calibrate
from geofix_training.stages.classifier import run_classifier, trained_classifier
from geofix_training.stages.embedder import run_embedder
from geofix_training.stages.export import calibration_of, run_export
from geofix_training.stages.partition import Collection, run_partition
from geofix_training.stages.work import Work
from stage_data import DIM, experiment, features

ALONE = Processes(0, 1, torch.device("cpu"))


def quiet(_done: int, _all: int) -> None:
    pass


def partitioned(folder: Path, **changes: object) -> Work:
    given = folder / "given.npz"
    features().write(given)
    config = read_experiment(experiment(folder, **changes))
    return run_partition(config, Collection(features=given), folder / "work")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    work = partitioned(tmp_path_factory.mktemp("stages"))
    run_classifier(work, ALONE, quiet)
    run_embedder(work, ALONE, quiet)
    return work


@pytest.fixture(scope="module")
def bundle(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    run_calibrate(work, quiet)
    return run_export(work, tmp_path_factory.mktemp("out") / "bundle", calibration_of(work), quiet)


def test_groups_are_never_apart_and_blocks_are_whole(work: Work) -> None:
    group, parts = work.index.columns["group"], work.parts
    for part in Part:
        assert len(work.rows(part)) > 20, part
    blocks = {Part.TEST_BLOCKS, Part.CALIBRATION_BLOCKS}
    assert max(len(set(parts[group == one]) - blocks) for one in np.unique(group)) == 1
    lat, lon = work.index.columns["lat"], work.index.columns["lon"]
    block = np.floor(lat / 2) * 1000 + np.floor(lon / 2)
    for part in blocks:
        for one in np.unique(block[parts == part]):
            assert set(parts[block == one]) == {part}
    assert len(read_features(work.folder / "test_all.npz")) == np.isin(parts, [Part.TEST, Part.TEST_BLOCKS]).sum()


def test_the_bundle_places_features_it_has_not_seen(bundle: Bundle, work: Work) -> None:
    assert bundle.manifest.takes == "feature"
    test = read_features(work.folder / "test.npz")
    engine = LocalEngine(bundle)
    truth = latlon_to_xyz(test.lat, test.lon)
    for strategy in Strategy:
        places = [engine.decide(head, strategy).xyz for head in engine.heads(test.feature)]
        error = distance_km(np.stack(places), truth)
        assert np.median(error) < 700, strategy  # clusters are 64 km wide; a random one is 10,000 km off
    signals = [engine.decide(head).signals for head in engine.heads(test.feature)]
    radius = np.array([bundle.calibration.radius_km(one, 0.9) for one in signals])
    assert 0.75 <= float((error <= radius).mean()) <= 1
    with pytest.raises(InvalidInput, match=f"features of {DIM} values, not images"):
        engine.feature(b"\xff\xd8")


def test_the_model_card_says_what_the_gate_and_the_radii_rest_on(bundle: Bundle) -> None:
    reached = bundle.calibration.abstention
    assert reached is not None
    assert reached.answered > 0.2
    assert reached.right > 0.5, "0.6 was asked for, and a hundred images measure it"
    card = bundle.path(MODEL_CARD).read_text()
    assert f"{reached.answered:.1%} are, and {reached.right:.1%} of those are right" in card
    assert "of them in blocks of which nothing is in the gallery" in card


def test_held_out_rows_are_not_in_the_gallery(bundle: Bundle, work: Work) -> None:
    expected = sum(len(work.rows(part)) for part in (Part.TRAIN, Part.VALIDATION))
    assert len(LocalEngine(bundle).gallery.ids) == expected == int(bundle.cells.images.sum())


def test_without_calibration_answers_are_uncalibrated(work: Work, tmp_path: Path) -> None:
    bundle = run_export(work, tmp_path / "out", None, quiet)
    assert bundle.calibration.radius is None
    with pytest.raises(InvalidInput, match="not empty"):
        run_export(work, tmp_path / "out", None, quiet)


def test_a_checkpoint_of_another_architecture_is_named(work: Work) -> None:
    path = work.stage("classifier") / "best.pt"
    good = path.read_bytes()
    state = checkpoint.load(path)
    state["module"]["head.linear.weight"] = torch.zeros(3, 5)
    try:
        checkpoint.save(state, path)
        with pytest.raises(InvalidInput, match=r"head.linear.weight has the shape \(3, 5\)"):
            trained_classifier(work)
    finally:
        path.write_bytes(good)


def test_work_of_another_experiment_is_not_mixed_in(work: Work, tmp_path: Path) -> None:
    (tmp_path / "given.npz").write_bytes((work.folder.parent / "given.npz").read_bytes())
    other = read_experiment(experiment(tmp_path, seed=2))
    with pytest.raises(ConfigurationError, match="name another --work folder"):
        run_partition(other, Collection(features=tmp_path / "given.npz"), work.folder)


def test_work_of_another_version_is_told_from_damage(work: Work, tmp_path: Path) -> None:
    written = json.loads((work.folder / "experiment.json").read_text())
    written["experiment"]["no_longer_known"] = 1
    (tmp_path / "experiment.json").write_text(json.dumps(written))
    with pytest.raises(ConfigurationError, match=r"another version of geofix: name another --work folder"):
        _ = Work(tmp_path).experiment


def test_stages_out_of_order_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="run geofix-train partition first"):
        _ = Work(tmp_path).experiment
    fresh = partitioned(tmp_path)
    with pytest.raises(InvalidInput, match="run geofix-train classifier first"):
        run_export(fresh, tmp_path / "out", None, quiet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": {"max_cells": 5000}}, "images to train on for 5000 cells: add images, or lower"),
        ({"partition": {"max_cells": 20, "min_images": 5000}}, "lower min_images or add images"),
    ],
)
def test_fewer_images_than_cells(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        partitioned(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cellz": 3}, "cellz: Extra inputs"),
        ({"partition": {"max_cells": 9, "kappa": 1}}, "partition.kappa: Extra inputs"),
        ({"held_out": {"test": 0.9, "validation": 0.1}}, "leave less than a tenth"),
    ],
)
def test_an_unknown_or_wrong_key_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_experiment(experiment(tmp_path, **changes))


@pytest.mark.parametrize("name", ["swc-b4", "features"])
def test_the_experiments_that_ship_can_be_read(name: str) -> None:
    found = read_experiment(CONFIGS / f"{name}.yaml")
    assert (found.backbone is None) == (name == "features")
    if found.backbone is not None:
        declare_torchvision_operators()
        assert importlib.import_module("timm").is_model(found.backbone.timm)
        assert (found.backbone.preprocessing.size, found.embedder.hidden, found.partition.log_kappa) == (300, 4096, 16)


def test_a_network_that_timm_does_not_know_is_named() -> None:
    preprocessing = {"size": 32, "fit": "squash", "resample": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    config = BackboneConfig.model_validate({"timm": "efficientnet_b99", "preprocessing": preprocessing})
    with pytest.raises(ConfigurationError, match="timm knows no network 'efficientnet_b99'; it knows efficientnet"):
        TimmBackbone(config)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save({"step": 1}, path)
    (tmp_path / "last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(checkpoint.CheckpointNotWritten, match=r"No space left.*is kept in .*Make room"):
        checkpoint.save({"step": 2, "large": torch.zeros(100_000)}, path)
    assert checkpoint.load(path)["step"] == 1
    checkpoint.save({"step": 3}, path)
    assert checkpoint.load(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InvalidInput, match="remove it to start anew"):
        checkpoint.load(path)
