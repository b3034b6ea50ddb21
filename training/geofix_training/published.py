"""The published checkpoints of Search within Cell: their files, their parameter names, and the networks that they fill.

Nothing is unpickled but tensors (`weights_only=True`). A key or a shape that differs is named, so that a file of another
network is told from a damaged one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix.errors import ConfigurationError, InvalidInput
from geofix.geo import FloatArray
from geofix_training.heads import RetrievalModule
from geofix_training.weights import State, check_keys, fill, read_state, wrong_shape

ARCHITECTURE = "efficientnet-b4"
SIZE = 300
"""Pixels of the short side that the published backbone was trained on."""
LOG_KAPPA_OFFSET = 16.0
"""The published file stores log kappa minus this: kappa = exp(stored + 16)."""
_MUS, _KAPPAS = "mvmf.mus", "mvmf.kappas"
_WEIGHT, _BIAS = "mixture_weights.seq_model.0.weight", "mixture_weights.seq_model.0.bias"


class PublishedBackbone(nn.Module):
    """EfficientNet-B4 as `efficientnet_pytorch` builds it, its pooled output as the feature.

    That package and no other, since its padding is fixed for 380 pixels whatever the input's size, and the published weights
    were trained with that.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_pytorch import EfficientNet
        except ImportError as error:
            raise ConfigurationError(
                "the published backbone needs efficientnet_pytorch: pip install 'geofix[swc]'"
            ) from error
        self.net = EfficientNet.from_name(ARCHITECTURE, include_top=False)
        self.net.set_swish(
            memory_efficient=False
        )  # the other form has a backward pass of its own, which ONNX does not know

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, h, w) to features (n, 1792)."""
        pooled: Tensor = self.net(image)
        return pooled.flatten(1)


class PublishedClassifier(nn.Module):
    """Feature to log mixture weights: the published head is one linear layer. Every domain score is 0."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) to log mixture weights (n, cells) and domain scores (n,)."""
        weights = functional.log_softmax(functional.linear(feature, self.weight, self.bias), dim=1)
        return weights, 0 * feature[:, 0]


@dataclass(frozen=True)
class Published:
    """The published networks, in eval mode, and their m components.

    Attributes:
        backbone: images (n, 3, h, w) to features (n, d).
        classifier: features to log mixture weights (n, m).
        embedder: features to unit embeddings (n, d).
        lat: the components' means, degrees, shape (m,).
        lon: the same.
        kappa: natural scale, shape (m,).
    """

    backbone: PublishedBackbone
    classifier: PublishedClassifier
    embedder: RetrievalModule
    lat: FloatArray
    lon: FloatArray
    kappa: FloatArray


def read_published(backbone: Path, mvmf: Path, rrm: Path) -> Published:
    """Read the three files.

    Raises:
        InvalidInput: a file is not there, is no checkpoint, or is one of another network; the message names file and key.
        ConfigurationError: `efficientnet_pytorch` is not installed.
    """
    network = PublishedBackbone()
    fill(network.net, backbone)
    head = read_state(mvmf)
    check_keys(mvmf, head, {_MUS, _KAPPAS, _WEIGHT, _BIAS})
    dim = int(network.net._conv_head.out_channels)
    cells = _check_head(mvmf, head, dim)
    embedder = RetrievalModule(dim, _hidden(rrm))
    fill(embedder, rrm)
    lat, lon = (row.astype(float) for row in head[_MUS].double().numpy())
    if not (np.all(np.abs(lat) <= 90) and np.all(np.isfinite(lon))):
        raise InvalidInput(f"{mvmf}: {_MUS} must be degrees, the first row lat within ±90")
    kappa = np.exp(head[_KAPPAS].double().numpy() + LOG_KAPPA_OFFSET)
    if not np.all(np.isfinite(kappa)):
        raise InvalidInput(f"{mvmf}: {_KAPPAS} of {cells} cells must be finite")
    classifier = PublishedClassifier(head[_WEIGHT], head[_BIAS])
    return Published(network.eval(), classifier.eval(), embedder.eval(), lat, (lon + 180) % 360 - 180, kappa)


def _check_head(path: Path, head: State, dim: int) -> int:
    cells = head[_BIAS].numel()
    for name, shape in ((_MUS, (2, cells)), (_KAPPAS, (cells,)), (_WEIGHT, (cells, dim))):
        if tuple(head[name].shape) != shape:
            raise wrong_shape(path, name, tuple(head[name].shape), shape)
    return cells


def _hidden(path: Path) -> int:
    weight = read_state(path).get("res.fc1.weight")
    if weight is None or weight.dim() != 2:
        raise InvalidInput(f"{path} has no matrix res.fc1.weight: it is not the published retrieval module")
    return int(weight.shape[0])


def random_published(directory: Path, cells: int, hidden: int, seed: int) -> tuple[Path, Path, Path]:
    """Write the three files with random weights, for tests and benchmarks; their paths, in the order of `read_published`."""
    torch.manual_seed(seed)
    network = PublishedBackbone()
    for module in network.modules():  # statistics as after training, so that features stay of order one
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
    dim = int(network.net._conv_head.out_channels)
    place = functional.normalize(torch.randn(cells, 3).double(), dim=1)
    degrees = torch.stack([torch.asin(place[:, 2]), torch.atan2(place[:, 1], place[:, 0])]) * (180 / math.pi)
    head = {
        _MUS: degrees,
        _KAPPAS: 0.5 * torch.randn(cells).double(),
        _WEIGHT: torch.randn(cells, dim) / math.sqrt(dim),
        _BIAS: torch.zeros(cells),
    }
    states = {
        "efficientnet_backbone.pt": network.net.state_dict(),
        "mvmf_head.pt": head,
        "rrm_head.pt": RetrievalModule(dim, hidden).state_dict(),
    }
    for name, state in states.items():
        torch.save(state, directory / name)
    backbone, mvmf, rrm = (directory / name for name in states)
    return backbone, mvmf, rrm
