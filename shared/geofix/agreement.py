"""Does a bundle say the same of images on another provider as on the one that it was made and calibrated with?"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, CLASSIFIER, EMBEDDER, Bundle
from geofix.onnx import OnnxSession
from geofix.placement import CPU

TOP_CELL, COSINE = 0.99, 0.999
"""What a provider has to reach: the share of images whose best cell is the same, the mean cosine of their embeddings."""


@dataclass(frozen=True)
class Agreement:
    """What was found.

    Attributes:
        images: compared.
        top_cell: share of them whose best cell is the same.
        cosine: mean of the embeddings' cosines.
        worst_cosine: the least of them.
        faster: times that the backbone is faster, one pass at a time on one thread.
    """

    images: int
    top_cell: float
    cosine: float
    worst_cosine: float
    faster: float

    @property
    def holds(self) -> bool:
        """Whether answers may be served from it."""
        return self.top_cell >= TOP_CELL and self.cosine >= COSINE


def compare(bundle: Bundle, provider: str, inputs: Iterable[NDArray[np.float32]]) -> Agreement:
    """Compare a provider with ONNX Runtime in float32 on network inputs, each of shape (3, height, width).

    Raises:
        MismatchError: the provider is not to be had.
        ValueError: there are no inputs.
    """
    backbones = [OnnxSession(bundle.path(BACKBONE), (name,), threads=1) for name in (CPU, provider)]
    spent = [0.0, 0.0]
    features: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for count, prepared in enumerate(inputs):
        for turn in (0, 1):
            which = (count + turn) % 2  # in turns, for a machine's speed drifts
            if count == 0:
                backbones[which].run(prepared[None])  # kernels and memory
            began = time.perf_counter()
            features[which].append(backbones[which].run(prepared[None])["feature"][0])
            spent[which] += time.perf_counter() - began
    if not features[0]:
        raise ValueError("there are no images to compare")
    head, module = (OnnxSession(bundle.path(name)) for name in (CLASSIFIER, EMBEDDER))
    stacked = [np.stack(some) for some in features]
    cells = [head.run(some)["log_weights"].argmax(axis=1) for some in stacked]
    ours, theirs = (module.run(some)["embedding"].astype(float) for some in stacked)
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return Agreement(
        len(cosines),
        float((cells[0] == cells[1]).mean()),
        float(cosines.mean()),
        float(cosines.min()),
        spent[0] / spent[1],
    )
