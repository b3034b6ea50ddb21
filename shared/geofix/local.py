"""The whole method in one process, without services: for evaluation, calibration and tests.

It runs the same models, the same decision rule and the same calibration as the platform; its search is an exact one in numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import BACKBONE, CLASSIFIER, EMBEDDER, GALLERY, Bundle
from geofix.decision import Decision, Strategy, decide, plan
from geofix.geo import latlon_to_xyz
from geofix.images import ImageLimits, read_input
from geofix.onnx import OnnxSession
from geofix.posterior import CellScores, Neighbors

TOP_CELLS = 64
"""Cells that travel from classifier to gateway by default; the signals are computed from these, here as there."""
_TOGETHER = 64
"""Embeddings that one pass over the gallery compares: it is as fast as memory is read, and reads it once."""


@dataclass(frozen=True)
class Heads:
    """What the models say about one image: the backbone's feature (d,), the cell scores and the unit embedding (e,)."""

    feature: NDArray[np.float32]
    cells: CellScores
    embedding: NDArray[np.float32]


class ExactGallery:
    """A bundle's gallery in memory, cell by cell: embeddings (n, e), places (n, 3), cell ids (n,), ids; searched exactly."""

    def __init__(self, bundle: Bundle) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(bundle.path(GALLERY), columns=["id", "lat", "lon", "cell_id", "embedding"])
        order = np.argsort(table["cell_id"].to_numpy(), kind="stable")
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        # In the order of the cells, so that a search reads its cells where they are and copies nothing.
        self.embedding = flat.reshape(len(table), bundle.manifest.embedding_dim)[order].astype(np.float32)
        self.xyz = latlon_to_xyz(table["lat"].to_numpy()[order], table["lon"].to_numpy()[order])
        self.cell_id = table["cell_id"].to_numpy()[order].astype(np.int32)
        names = table["id"].to_pylist()
        self.ids: list[str] = [names[row] for row in order]
        bounds = np.searchsorted(self.cell_id, np.arange(bundle.manifest.cell_count + 1)).tolist()
        self._cells = [slice(a, b) for a, b in pairwise(bounds)]

    def search(
        self, embedding: NDArray[np.float32], cells: tuple[int, ...], k: int
    ) -> tuple[NDArray[np.intp], Neighbors]:
        """Rows and neighbours nearest to a unit embedding, shape (e,), inside `cells` (empty: everywhere), best first."""
        parts = self._parts(cells)
        return self._best(parts, np.concatenate([self.embedding[part] @ embedding for part in parts]), k)

    def search_each(
        self, embeddings: NDArray[np.float32], cells: Sequence[tuple[int, ...]], k: int
    ) -> Iterator[Neighbors]:
        """As `search` does for each of many unit embeddings (n, e), of which many read the gallery together."""
        for start in range(0, len(embeddings), _TOGETHER):
            together = embeddings[start : start + _TOGETHER] @ self.embedding.T
            for similarity, inside in zip(together, cells[start : start + _TOGETHER], strict=True):
                parts = self._parts(inside)
                yield self._best(parts, np.concatenate([similarity[part] for part in parts]), k)[1]

    def _parts(self, cells: tuple[int, ...]) -> list[slice]:
        return [self._cells[cell] for cell in cells] if cells else [slice(0, len(self.cell_id))]

    def _best(self, parts: list[slice], of_parts: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], Neighbors]:
        similarity = of_parts.astype(float)
        best = np.argsort(-similarity, kind="stable")[:k]
        rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])[best]
        return rows, Neighbors(self.cell_id[rows], self.xyz[rows], similarity[best])


class LocalEngine:
    """Locates images with a bundle, in this process."""

    def __init__(self, bundle: Bundle, limits: ImageLimits = ImageLimits()) -> None:
        self.bundle = bundle
        self.limits = limits
        self.gallery = ExactGallery(bundle)
        self._backbone = OnnxSession(bundle.path(BACKBONE))
        self._classifier = OnnxSession(bundle.path(CLASSIFIER))
        self._embedder = OnnxSession(bundle.path(EMBEDDER))

    def feature(self, data: bytes) -> NDArray[np.float32]:
        """The backbone's feature of an image file, shape (d,).

        Raises:
            InvalidInput: the bytes are not an image within the limits, or the bundle takes no images.
        """
        self.bundle.manifest.check_takes_images()
        return self.feature_of(read_input(data, self.bundle.manifest.preprocessing, self.limits))

    def feature_of(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """The backbone's feature of a network input, shape (3, height, width) -> (d,)."""
        feature: NDArray[np.float32] = self._backbone.run(prepared[None])["feature"][0]
        return feature

    def heads(self, features: NDArray[np.float32]) -> list[Heads]:
        """Cell scores and embeddings of features, shape (n, d)."""
        scored, embedded = self._classifier.run(features), self._embedder.run(features)["embedding"]
        means = self.bundle.cells.xyz
        return [
            Heads(feature, CellScores.best_of(log_weight.astype(float), means, float(score), TOP_CELLS), embedding)
            for feature, log_weight, score, embedding in zip(
                features, scored["log_weights"], scored["domain_score"], embedded, strict=True
            )
        ]

    def decide(self, heads: Heads, strategy: Strategy = Strategy.POSTERIOR) -> Decision:
        """The answer of a strategy."""
        rule = self.bundle.manifest.decision
        search = plan(rule, strategy, heads.cells)
        neighbors = self.gallery.search(heads.embedding, search.cells, search.k)[1] if search.k else NO_NEIGHBORS
        return decide(rule, strategy, heads.cells, neighbors)


NO_NEIGHBORS = Neighbors(np.empty(0, np.int32), np.empty((0, 3)), np.empty(0))
