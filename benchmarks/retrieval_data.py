"""The images and the queries of benchmarks/retrieval.py: unit vectors in cells whose sizes follow Zipf's law with exponent 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

K = 10


@dataclass(frozen=True)
class Query:
    """A unit vector, shape (dim,), and the cells to search."""

    vector: NDArray[np.float32]
    cells: tuple[int, ...]


@dataclass(frozen=True)
class Data:
    """Images in the order of their cells.

    Attributes:
        vectors: unit vectors, shape (n, dim).
        cell: their cells, shape (n,), ascending.
        start: where each cell begins, shape (cells + 1,).
    """

    vectors: NDArray[np.float32]
    cell: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def random(cls, rows: int, cells: int, dim: int, seed: int = 0) -> Data:
        """A cell of rank r holds about rows / r / H images, H the harmonic number; which cell has which rank is random."""
        rng = np.random.default_rng(seed)
        share = 1 / np.arange(1, cells + 1)
        cell = np.sort(rng.permutation(cells)[rng.choice(cells, rows, p=share / share.sum())])
        vectors = rng.standard_normal((rows, dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(vectors, cell, np.searchsorted(cell, np.arange(cells + 1)))

    def __len__(self) -> int:
        return len(self.cell)

    def queries(self, count: int, cells: int, seed: int) -> list[Query]:
        """Queries into as many cells each, drawn as images fall over them, so that hot cells are asked for more often."""
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((count, self.vectors.shape[1]), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        drawn = []
        for vector in vectors:
            chosen: list[int] = []
            while len(chosen) < cells:
                one = int(self.cell[rng.integers(len(self))])
                chosen += [one] * (one not in chosen)
            drawn.append(Query(vector, tuple(chosen)))
        return drawn

    def exact(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best inside the cells."""
        parts = [np.arange(self.start[cell], self.start[cell + 1]) for cell in query.cells]
        similarity = np.concatenate(
            [self.vectors[part[0] : part[-1] + 1] @ query.vector for part in parts if len(part)]
        )
        rows = np.concatenate(parts)
        best = np.argpartition(-similarity, K)[:K] if len(rows) > K else np.arange(len(rows))
        return rows[best]


def recall(found: list[NDArray[np.int64]], expected: list[NDArray[np.int64]]) -> float:
    """The share of the expected rows that were found."""
    hits = sum(len(np.intersect1d(one, other)) for one, other in zip(found, expected, strict=True))
    return hits / sum(len(rows) for rows in expected)
