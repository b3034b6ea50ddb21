"""Backbones by their names in timm."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from geofix.errors import ConfigurationError
from geofix_training.backbone import declare_torchvision_operators, fill_from_package
from geofix_training.experiment import NetworkConfig
from geofix_training.weights import fill


class TimmBackbone(nn.Module):
    """Image (n, 3, h, w) to pooled feature (n, d), by any network of timm.

    Raises:
        ConfigurationError: timm knows no such network.
        InvalidInput: the weights are of another network.
    """

    def __init__(self, config: NetworkConfig, *, initial: bool = True) -> None:
        super().__init__()
        declare_torchvision_operators()
        timm = importlib.import_module("timm")
        if not timm.is_model(config.timm):
            near = ", ".join(timm.list_models(f"*{config.timm.split('_')[0]}*")[:5]) or "see timm.list_models()"
            raise ConfigurationError(f"timm knows no network {config.timm!r}; it knows {near}")
        pretrained = initial and config.pretrained
        self.net: Any = timm.create_model(config.timm, pretrained=pretrained, exportable=True)
        if initial and config.package is not None:
            fill_from_package(self.net, config.package)
        self.net.reset_classifier(0)
        self.dim = int(getattr(self.net, "head_hidden_size", None) or self.net.num_features)
        if initial and config.weights is not None:
            fill(self.net, config.weights)

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, h, w) to features (n, d)."""
        pooled: Tensor = self.net(image)
        return pooled.flatten(1)


def feature_of(backbone: nn.Module, images: Tensor) -> Tensor:
    """Features of a batch without gradient, float32 on the CPU."""
    with torch.no_grad():
        feature: Tensor = backbone(images).float().cpu()
    return feature
