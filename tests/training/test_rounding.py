"""Weights of eight bits: rounded once, found again in the graph, and stored without another loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from geofix.onnx import OnnxSession
from geofix_training.export import export, store_small
from geofix_training.rounding import MOST, round_weights, rounded_columns, whole_numbers


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 24, 5, bias=False), nn.BatchNorm2d(24)
        self.deep = nn.Conv2d(24, 24, 5, groups=24)
        self.last = nn.Linear(24, 30)
        nn.init.uniform_(self.norm.weight, 0.2, 3.0)
        assert self.norm.running_var is not None
        nn.init.uniform_(self.norm.running_var, 0.1, 2.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.deep(self.norm(self.conv(image)).relu()).mean(dim=(2, 3)))
        return out


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_each_channel_becomes_whole_numbers_of_its_own_scale(net: Net) -> None:
    with torch.no_grad():
        net.conv.weight[3] = 0.0
        net.conv.weight[4] *= 1000.0
    before = net.conv.weight.detach().clone()
    round_weights(net)
    for channel, (was, now) in enumerate(zip(before, net.conv.weight.detach(), strict=True)):
        scale = float(was.abs().max()) / MOST
        assert float((now - was).abs().max()) <= 0.501 * scale
        multiples = now / scale if scale else now
        assert float((multiples - multiples.round()).abs().max()) < 1e-4, channel
    assert not net.conv.weight[3].any()


def test_whole_numbers_are_told_from_others() -> None:
    rng = np.random.default_rng(0)
    multiples = rng.integers(-MOST, MOST + 1, (20, 3, 5, 5)).astype(np.float32)
    multiples[:, 0, 0, 0] = MOST
    values = multiples * rng.uniform(1e-4, 9, (20, 1, 1, 1)).astype(np.float32)
    found = whole_numbers(values)
    assert found is not None
    assert found[0].dtype == np.int8
    assert (found[0] == multiples).all()
    np.testing.assert_allclose(found[0] * found[1], values, rtol=1e-6)
    across = whole_numbers(np.ascontiguousarray(values.reshape(20, -1).T))
    assert across is not None
    assert across[1].shape == (1, 20)
    assert whole_numbers(rng.normal(size=(20, 3, 5, 5)).astype(np.float32)) is None
    assert whole_numbers(values + np.float32(0.01)) is None


def test_columns_that_are_rounded_are_found_again() -> None:
    values = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32) * np.float32(3) ** np.arange(20)
    values[:, 4] = 0
    fewer = rounded_columns(values)
    assert (np.abs(fewer - values) <= 0.501 * np.abs(values).max(axis=0) / MOST).all()
    found = whole_numbers(fewer)
    assert found is not None
    np.testing.assert_allclose(found[0] * found[1], fewer, rtol=1e-6)


def test_a_rounded_network_is_stored_in_a_byte_a_weight_and_says_the_same(net: Net, tmp_path: Path) -> None:
    """Though the exporter folds the batch normalisation into the convolution before it."""
    round_weights(net)
    images = torch.rand(2, 3, 24, 24)
    export(net, images, tmp_path / "net.onnx", ["image"], ["out"])
    wanted = OnnxSession(tmp_path / "net.onnx").run(images.numpy())["out"]
    store_small(tmp_path / "net.onnx")
    kinds = [tensor.data_type for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert kinds.count(TensorProto.INT8) == 3
    assert TensorProto.FLOAT16 not in kinds
    np.testing.assert_allclose(
        OnnxSession(tmp_path / "net.onnx").run(images.numpy())["out"], wanted, rtol=1e-4, atol=1e-5
    )


def test_a_network_that_was_not_rounded_is_stored_in_half_precision(net: Net, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 24, 24)
    export(net, images, tmp_path / "net.onnx", ["image"], ["out"])
    store_small(tmp_path / "net.onnx")
    kinds = [tensor.data_type for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer]
    assert TensorProto.INT8 not in kinds
    assert kinds.count(TensorProto.FLOAT16) == 3
