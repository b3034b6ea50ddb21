"""Weights of eight bits: whole numbers from -127 to 127 times one scale for each output channel.

They are rounded before any feature is computed, so that what is taught, searched and served is the same; the file then holds
the whole numbers without another loss. Only how they are kept differs: a pass multiplies floating-point numbers as before.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

MOST = 127
_NEARLY_WHOLE = 1e-3
"""How far from whole a number may be: batch normalisation that was folded into a convolution moves the last digits."""


def round_weights(module: nn.Module) -> None:
    """Round the weights of every convolution and linear layer, each output channel by its largest."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                largest = layer.weight.abs().flatten(1).amax(dim=1)
                scale = torch.where(largest > 0, largest / MOST, 1.0).reshape(-1, *[1] * (layer.weight.dim() - 1))
                layer.weight.copy_((layer.weight / scale).round() * scale)


def rounded_columns(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """A matrix (r, d) whose columns are such multiples, each by its largest."""
    largest = np.abs(matrix).max(axis=0)
    scale = np.where(largest > 0, largest / MOST, 1).astype(np.float32)
    return np.asarray(np.rint(matrix / scale) * scale, np.float32)


def whole_numbers(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Weights as int8 of their shape and scales that broadcast over it, channels along the first axis or the last; None where
    they are no such multiples.
    """
    for axis in (0, values.ndim - 1):
        others = tuple(other for other in range(values.ndim) if other != axis)
        largest = np.abs(values).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / MOST, 1).astype(np.float32)
        multiples = values / scale
        whole = np.rint(multiples)
        if np.abs(multiples - whole).max() < _NEARLY_WHOLE:
            return whole.astype(np.int8), scale
    return None
