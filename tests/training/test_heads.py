"""What is trained on top of the backbone, against the published reference and against the serving formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from geofix.geo import latlon_to_xyz
from geofix.mvmf import log_density
from geofix_training.heads import MixtureHead, RetrievalModule, multi_positive_loss, mvmf_log_density

DATA = Path(__file__).parents[1] / "data"


def test_the_retrieval_module_is_the_published_one() -> None:
    with np.load(DATA / "rrm.npz") as golden:
        module = RetrievalModule(32, 4096)
        state = {name.removeprefix("state."): torch.from_numpy(golden[name]) for name in golden if "state." in name}
        module.load_state_dict(state, strict=True)
        with torch.no_grad():
            found = module(torch.from_numpy(golden["input"]))
        assert found.numpy() == pytest.approx(golden["output"], abs=1e-6)


@pytest.mark.parametrize("name", ["sharp", "broad"])
def test_the_training_density_is_exact(name: str) -> None:
    with np.load(DATA / f"mvmf_{name}.npz") as golden:
        found = mvmf_log_density(
            torch.from_numpy(np.log(golden["mixture_weights"])),
            torch.from_numpy(latlon_to_xyz(*golden["targets_latlon"].T)),
            torch.from_numpy(latlon_to_xyz(*golden["mus_latlon"].T)),
            torch.from_numpy(np.exp(golden["log_kappa"])),
        ).numpy()
        exact = golden["log_density_exact"]
        assert np.all(np.abs(found - exact) <= 1e-6 * np.maximum(1, np.abs(exact)))


def random_head(seed: int = 0) -> tuple[MixtureHead, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(12, 3).double(), dim=1)
    head = MixtureHead(8, means, torch.full((12,), 50.0), hidden=16)
    place = torch.nn.functional.normalize(torch.randn(40, 3).double(), dim=1)
    return head, torch.randn(40, 8), place


def test_training_and_serving_agree_on_the_density() -> None:
    head, feature, place = random_head()
    with torch.no_grad():
        weights = head(feature)
        ours = head.log_density(weights, place).numpy()
        means, kappa = head.unit_means().numpy(), head.log_kappa.exp().numpy()
    assert ours == pytest.approx(log_density(place.numpy(), means, kappa, weights.double().numpy()), abs=1e-9)


def test_every_place_gives_gradient() -> None:
    """Even opposite all components, where the published loss, with 1e-9 under its logarithm, has none."""
    head, feature, _ = random_head()
    head.log_kappa.data.fill_(16.0)
    far = -head.unit_means().detach()[:1].repeat(40, 1)
    (-head.log_density(head(feature), far).mean()).backward()  # type: ignore[no-untyped-call, unused-ignore]
    assert head.linear.bias.grad is not None
    assert head.means.grad is not None
    assert torch.isfinite(head.means.grad).all()
    assert float(head.means.grad.abs().max()) > 0


def test_the_contrastive_loss_by_hand() -> None:
    similarity = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    positive = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    first = -np.log(np.exp(2) / (np.exp(2) + 1 + np.exp(-2)))
    second = -np.log(2 / 3)
    assert float(multi_positive_loss(similarity, positive, 0.5)) == pytest.approx((first + second) / 2, abs=1e-5)


def test_a_query_without_positives_does_not_count() -> None:
    similarity = torch.tensor([[1.0, 0.0], [0.3, 0.9]])
    alone = multi_positive_loss(similarity[:1], torch.tensor([[1.0, 0.0]]), 0.1)
    both = multi_positive_loss(similarity, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 0.1)
    assert float(both) == pytest.approx(float(alone))


@pytest.mark.parametrize("out_dim", [0, 8])
def test_a_module_that_begins_as_features_are_keeps_their_cosines(out_dim: int) -> None:
    torch.manual_seed(1)
    features = torch.randn(400, 8) @ torch.linalg.qr(torch.randn(64, 8))[0].T * 8**0.5  # in eight directions of 64
    features = features - features.mean(dim=1, keepdim=True)  # as the module's norms do
    module = RetrievalModule(64, 16, out_dim)
    module.begin_as_features(features)
    with torch.no_grad():
        embedding = module(features)
    unit = torch.nn.functional.normalize(features, dim=1)
    assert torch.allclose(embedding @ embedding.T, unit @ unit.T, atol=0.02)
    assert embedding.shape == (400, out_dim or 64)
