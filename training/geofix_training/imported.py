"""What imports of other people's weights share: how they export, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from geofix import bundle as files
from geofix.bundle import Bundle
from geofix_training.export import export


@dataclass(frozen=True)
class Imported:
    """The bundle, and what became of the gallery's rows."""

    bundle: Bundle
    gallery_images: int
    repeated: int


def export_networks(
    out: Path,
    backbone: nn.Module,
    classifier: nn.Module,
    embedder: nn.Module,
    *,
    height: int,
    width: int,
    feature_dim: int,
) -> None:
    """Write a bundle's three networks; the image's height and width are an example's, in pixels."""
    image, feature = torch.zeros(1, 3, height, width), torch.zeros(1, feature_dim)
    export(backbone, image, out / files.BACKBONE, ["image"], ["feature"])
    export(classifier, feature, out / files.CLASSIFIER, ["feature"], ["log_weights", "domain_score"])
    export(embedder, feature, out / files.EMBEDDER, ["feature"], ["embedding"])
