"""The last layers of networks, copied and taught by contrast: maps of their last stages to an embedding."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geofix_training.frozen import blocks_of, gem, joined
from geofix_training.reduction import CLIP, Reduction

LEAST_SCALE = 1e-3
"""Of the largest deviation: what hardly varies in the sample must not turn the last digits of a number into a signal."""


class Tail(nn.Module):
    """Maps (n, c, h, w) to unit embeddings (n, e): the layers after them, mean and GeM of the last one, and a linear projection.

    With no blocks only the layer after them is taught, a small part of the work of a pass of the network.

    It starts as the network's own layers and the whitening of what they give, so that it begins as good as those. Batch
    normalisation stays with the statistics that it came with: those of few photographs would be worse.

    Args:
        net: the network, of timm.
        blocks: how many of its last blocks are copied, with the layer after them.
        reduction: of mean and GeM of its last layer to the embedding, (2c, e).
    """

    def __init__(self, net: Any, blocks: int, reduction: Reduction) -> None:
        super().__init__()
        last = blocks_of(net)
        own = nn.Sequential(*last[len(last) - blocks :], net.conv_head, net.bn2)
        layers = copy.deepcopy(own).requires_grad_(True)
        self.layers = layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the maps: a third faster
        self.mean = nn.Parameter(torch.from_numpy(reduction.mean), requires_grad=False)
        scale = np.maximum(reduction.scale, LEAST_SCALE * reduction.scale.max())
        self.scale = nn.Parameter(torch.from_numpy(scale), requires_grad=False)
        self.projection = nn.Parameter(torch.from_numpy(np.ascontiguousarray(reduction.matrix)))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, c, h, w) to unit embeddings (n, e)."""
        last = self.layers(maps).float()  # sums over a map need more digits than bfloat16 has
        pooled = torch.cat([last.mean(dim=(2, 3)), gem(last)], dim=1)
        standard = ((pooled - self.mean) / self.scale).clamp(-CLIP, CLIP)
        with torch.autocast(standard.device.type, enabled=False):
            return functional.normalize(standard @ self.projection, dim=1)

    def train(self, mode: bool = True) -> Tail:
        """As `nn.Module.train`, but for the batch normalisation."""
        super().train(mode)
        self.layers.eval()
        return self


class Tails(nn.Module):
    """Maps of each network, (n, c, h, w), to one unit embedding (n, e): of each its tail, all of one weight."""

    def __init__(self, tails: Sequence[Tail]) -> None:
        super().__init__()
        self.tails = nn.ModuleList(tails)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of each network, (n, c, h, w), to unit embeddings (n, e)."""
        return joined([tail(one) for tail, one in zip(self.tails, maps, strict=True)])


def embed(tails: Tails, maps: Iterator[list[NDArray[np.float16]]]) -> NDArray[np.float32]:
    """Embeddings (n, e) of the networks' maps, (k, c, h, w), that come in parts."""
    parts = []
    for part in maps:
        with torch.no_grad():
            parts.append(tails([as_input(one) for one in part]).numpy())
    return np.concatenate(parts)


def as_input(maps: NDArray[np.float16]) -> Tensor:
    """Maps in the order in which convolutions on a CPU are fastest."""
    return torch.from_numpy(maps.astype(np.float32)).contiguous(memory_format=torch.channels_last)
