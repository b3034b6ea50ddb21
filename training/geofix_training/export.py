"""From trained modules to the ONNX files of a bundle, with weights stored as float16 where that is measured to agree."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from geofix_training.backbone import Levels
from geofix_training.domain import Domain
from geofix_training.heads import MixtureHead, RetrievalModule
from geofix_training.reduction import CLIP, ENERGY_EXPONENT, Reduction
from geofix_training.rounding import whole_numbers

OPSET = 18
SMALL = 256
"""Tensors with fewer values stay float32: they weigh nothing, and norms and biases live in them."""


class Backbone(nn.Module):
    """Image to feature: backbone statistics and their reduction."""

    def __init__(self, levels: Levels, reduction: Reduction) -> None:
        super().__init__()
        self.levels = levels
        self.mean = nn.Parameter(torch.from_numpy(reduction.mean))
        self.scale = nn.Parameter(torch.from_numpy(reduction.scale))
        self.matrix = nn.Parameter(torch.from_numpy(reduction.matrix))
        self.deviation = nn.Parameter(torch.from_numpy(reduction.deviation))

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, h, w) to features (n, d + 1)."""
        standard = ((self.levels(image) - self.mean) / self.scale).clamp(-CLIP, CLIP)
        white = standard @ self.matrix
        energy = (standard**2).sum(dim=1)
        left = energy - ((white * self.deviation) ** 2).sum(dim=1)
        strangeness = left.clamp_min(1e-3).log() - ENERGY_EXPONENT * energy.clamp_min(1e-3).log()
        return torch.cat([white, strangeness[:, None]], dim=1)


class Classifier(nn.Module):
    """Feature to log mixture weights and domain score.

    The feature's last value is the image's strangeness; its negative is high for images like the training crops and falls
    as they differ. The domain score is the smaller of that and of `Domain`.
    """

    def __init__(self, head: MixtureHead, domain: Domain) -> None:
        super().__init__()
        self.head = head
        self.domain = nn.Parameter(torch.from_numpy(domain.weight))
        self.bias = domain.bias

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d + 1) to log mixture weights (n, cells) and domain scores (n,)."""
        return self.head(feature[:, :-1]), torch.minimum(-feature[:, -1], feature @ self.domain + self.bias)


class Embedder(nn.Module):
    """Feature to unit embedding."""

    def __init__(self, module: RetrievalModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, feature: Tensor) -> Tensor:
        """Features (n, d + 1) to embeddings (n, e)."""
        embedding: Tensor = self.module(feature[:, :-1])
        return embedding


def export(module: nn.Module, example: Tensor, path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Write a module in eval mode as ONNX with a dynamic batch axis and, for images, a dynamic height and width."""
    axes = {name: {0: "n"} for name in [*inputs, *outputs]}
    if example.dim() == 4:
        axes[inputs[0]] |= {2: "height", 3: "width"}
    with warnings.catch_warnings():
        # torch's newer exporter needs onnxscript and changes the graph's names; this one is deprecated but exact.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
            opset_version=OPSET,
        )


def store_small(path: Path, only: str = "") -> None:
    """Store the large float32 tensors of an ONNX file, or `only` the one of that name, in fewer bytes.

    As int8 with a scale a channel where they are such multiples (`rounding.py`), else as float16; nodes at the graph's beginning
    make float32 of them, which runtimes do once, when they load it.
    """
    model = onnx.load(path)
    graph = model.graph
    nodes = []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < SMALL:
            continue
        if only and tensor.name != only:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        if values.ndim > 1 and (found := whole_numbers(values)) is not None:
            multiples, scale = found
            tensor.CopyFrom(numpy_helper.from_array(multiples, f"{name}.int8"))
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
            nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
        elif float(np.abs(values).max()) <= 60_000:  # within float16's range
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    onnx.checker.check_model(model)
    onnx.save(model, path)


def cosine_agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The lowest cosine between the rows of two arrays, (n, d)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())
