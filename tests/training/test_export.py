"""From torch to ONNX: the same values, in half the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from geofix.onnx import OnnxSession
from geofix_training.backbone import RAW_DIM, SIZE, Levels
from geofix_training.domain import Domain, fit_domain
from geofix_training.export import Backbone, Classifier, cosine_agreement, export, store_small
from geofix_training.heads import MixtureHead
from geofix_training.reduction import Reduction, fit_reduction


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(RAW_DIM, 16)).astype(np.float32)
    whole = Backbone(Levels(), Reduction(np.zeros(RAW_DIM, np.float32), np.ones(RAW_DIM, np.float32), matrix))
    whole.eval()
    return whole


def exported(module: nn.Module, example: torch.Tensor, path: Path, source: str, outputs: list[str]) -> OnnxSession:
    export(module, example, path, [source], outputs)
    before = path.stat().st_size
    store_small(path)
    assert path.stat().st_size < 0.75 * before
    return OnnxSession(path)


def test_the_backbone_in_half_precision_agrees(backbone: Backbone, tmp_path: Path) -> None:
    images = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    session = exported(backbone, images[:2], tmp_path / "b.onnx", "image", ["feature"])
    with torch.no_grad():
        wanted = backbone(images).numpy()
    found = session.run(images.numpy())["feature"]
    assert found.dtype == np.float32
    assert cosine_agreement(found, wanted) > 0.999


def test_exposure_and_haze_change_the_feature_little(backbone: Backbone) -> None:
    """Because the input is brought to one mean and contrast first; a gain and an offset are all that differ."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, SIZE, SIZE) - 0.5
    with torch.no_grad():
        raw = backbone.levels(torch.cat([image, 0.5 * image + 0.3]))[:, 6:]
    assert cosine_agreement(raw[:1].numpy(), raw[1:].numpy()) > 0.99


def test_the_domain_score_is_the_smaller_of_likeness_and_domain(tmp_path: Path) -> None:
    means = torch.nn.functional.normalize(torch.randn(40, 3).double(), dim=1)
    head = MixtureHead(64, means, torch.full((40,), 50.0), hidden=128)
    domain = Domain(np.r_[1.0, np.zeros(64)].astype(np.float32), 0.5)
    feature = torch.randn(5, 65)
    path = tmp_path / "c.onnx"
    session = exported(Classifier(head, domain).eval(), feature[:2], path, "feature", ["log_weights", "domain_score"])
    feature[:, 0], feature[:, -1] = 9.0, torch.arange(5.0)
    near = session.run(feature.numpy())
    assert near["domain_score"] == pytest.approx(-np.arange(5.0))
    assert np.exp(near["log_weights"]).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    feature[:, 0] = -9.0
    assert session.run(feature.numpy())["domain_score"] == pytest.approx(np.full(5, -8.5), abs=1e-2)


def test_pictures_of_nothing_near_the_middle_score_below_the_model_s_own() -> None:
    rng = np.random.default_rng(0)
    own, nothing = rng.normal(size=(3000, 12)), 0.3 * rng.normal(size=(300, 12))
    own[:, 3] += 2.0
    own[:, -1], nothing[:, -1] = rng.normal(0, 0.2, 3000), -1.0  # by likeness alone nothing is most alike
    domain = fit_domain(own[:2000].astype(np.float32), nothing[:200].astype(np.float32))
    both = [np.minimum(domain(x), -x[:, -1]) for x in (own[2000:].astype(np.float32), nothing[200:].astype(np.float32))]
    threshold = np.quantile(both[0], 0.03)
    assert (both[1] < threshold).mean() > 0.9


def statistics(seed: int, rank: int) -> NDArray[np.float16]:
    """Of images that vary in `rank` of 60 directions; those of a lower rank are among those of a higher one."""
    directions = np.random.default_rng(0).normal(size=(60, 60))[:rank]
    return (np.random.default_rng(seed).normal(size=(4000, rank)) @ directions).astype(np.float16)


def test_features_are_white_and_new_directions_stand_out() -> None:
    reduction = fit_reduction([statistics(1, 20)], 20, 0)
    known, strange = reduction(statistics(2, 20)), reduction(statistics(3, 21))
    assert np.cov(known[:, :-1].T) == pytest.approx(np.eye(20), abs=0.12)
    assert np.quantile(known[:, -1], 0.99) < np.quantile(strange[:, -1], 0.05)
