"""A bundle with an EfficientNet-B4 of random weights, as large as the published model: for measuring speed, it knows nothing.

    python benchmarks/b4.py DIRECTORY

Backbone: EfficientNet-B4 of `efficientnet_pytorch`, short side 300 px, 1792 values. Mixture head, cells, gallery and decision
rule are of orbit's size; the retrieval module is the published one (LayerNorm, 1792 -> 4096 -> 1792, LayerNorm) and a projection
to orbit's 128 values, so that both bundles search the same gallery. Needs torch and
`efficientnet_pytorch` (pip install efficientnet_pytorch).
"""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import torch
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn

from geofix.bundle import BACKBONE, CELLS, CLASSIFIER, EMBEDDER, GALLERY, Bundle, write_manifest
from geofix.images import Preprocessing

SIZE, FEATURE_DIM, HIDDEN = 300, 1792, 4096
SHAPE = (300, 400)
"""Height and width of a 4:3 image; what the padding of the convolutions is fixed for."""
PREPROCESSING = Preprocessing(
    size=SIZE, fit="short_side", resample="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
ORBIT = Path(__file__).parents[1] / "bundles" / "orbit"


class Backbone(nn.Module):
    """Images (n, 3, h, w) to features (n, 1792)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-b4", include_top=False, image_size=list(SHAPE))
        self.network.set_swish(memory_efficient=False)

    def forward(self, image: Tensor) -> Tensor:
        """One pass."""
        feature: Tensor = self.network(image).flatten(1)
        return feature


class Head(nn.Module):
    """Features to log mixture weights (n, cells) and domain scores (n,)."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURE_DIM, cells)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """One pass."""
        return torch.log_softmax(self.linear(feature), dim=1), feature.mean(dim=1)


class Retrieval(nn.Module):
    """Features to unit embeddings (n, e): the residual retrieval module, then a projection."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.norm, self.last_norm = nn.LayerNorm(FEATURE_DIM), nn.LayerNorm(FEATURE_DIM)
        self.fc1, self.fc2 = nn.Linear(FEATURE_DIM, HIDDEN), nn.Linear(HIDDEN, FEATURE_DIM)
        self.project = nn.Linear(FEATURE_DIM, embedding_dim, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        """One pass."""
        x = self.norm(feature)
        x = self.last_norm(x + self.fc2(torch.relu(self.fc1(x))))
        return nn.functional.normalize(self.project(x), dim=1)


def modules(cells: int, embedding_dim: int) -> tuple[Backbone, Head, Retrieval]:
    """The three networks; the same weights every time."""
    torch.manual_seed(0)
    return Backbone().eval(), Head(cells).eval(), Retrieval(embedding_dim).eval()


def make(directory: Path) -> Bundle:
    """Write the bundle into a directory that need not exist."""
    orbit = Bundle.load(ORBIT)
    directory.mkdir(parents=True, exist_ok=True)
    backbone, head, retrieval = modules(orbit.manifest.cell_count, orbit.manifest.embedding_dim)
    feature = torch.zeros(1, FEATURE_DIM)
    _export(backbone, torch.zeros(1, 3, *SHAPE), directory / BACKBONE, "image", ["feature"])
    _export(head, feature, directory / CLASSIFIER, "feature", ["log_weights", "domain_score"])
    _export(retrieval, feature, directory / EMBEDDER, "feature", ["embedding"])
    for name in (CELLS, GALLERY):
        shutil.copyfile(orbit.path(name), directory / name)
    write_manifest(
        directory,
        name="b4",
        license="Apache-2.0",
        description="EfficientNet-B4 with random weights: for measuring speed, its answers mean nothing.",
        preprocessing=PREPROCESSING,
        feature_dim=FEATURE_DIM,
        embedding_dim=orbit.manifest.embedding_dim,
        cell_count=orbit.manifest.cell_count,
        decision=orbit.manifest.decision,
    )
    return Bundle.load(directory)


def _export(module: nn.Module, example: Tensor, path: Path, source: str, outputs: list[str]) -> None:
    axes = {name: {0: "n"} for name in (source, *outputs)}
    if example.ndim == 4:
        axes[source] |= {2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and of this exporter's age
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=[source],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
            opset_version=18,
        )


if __name__ == "__main__":
    print(f"wrote {make(Path(sys.argv[1])).version} into {sys.argv[1]}")
