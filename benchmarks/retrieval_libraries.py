"""What users would pick for exact search inside cells in one process: numpy, faiss, LanceDB, usearch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval_data import Data, K, Query

OVERFETCH = 100
"""usearch cannot narrow a search: so many times K are fetched, and those in the cells kept."""


class Searches(Protocol):
    """Something that finds the rows nearest to a vector inside cells; called by several threads."""

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""


class Library(Searches, Protocol):
    """An index in this process, built by its constructor; `disk` is what it takes there, in bytes."""

    name: str
    disk: int

    def close(self) -> None:
        """Give everything back."""


class Numpy:
    """The matrix, sorted by cell, and a product with the rows of the cells."""

    name = "numpy, exact"

    def __init__(self, data: Data) -> None:
        self._data, self.disk = data, data.vectors.nbytes

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""
        return self._data.exact(query)

    def close(self) -> None:
        """Nothing to do."""


class Faiss:
    """IndexFlatIP with an id selector that lists the rows of the cells."""

    name = "faiss, IndexFlatIP and IDSelectorArray"

    def __init__(self, data: Data) -> None:
        import faiss

        faiss.omp_set_num_threads(1)  # several clients share the cores
        self._faiss: Any = faiss
        self._start = data.start
        self._index = faiss.IndexFlatIP(data.vectors.shape[1])
        self._index.add(data.vectors)
        with tempfile.TemporaryDirectory() as directory:
            faiss.write_index(self._index, f"{directory}/index")
            self.disk = Path(directory, "index").stat().st_size

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""
        ids = np.concatenate([np.arange(self._start[cell], self._start[cell + 1]) for cell in query.cells])
        parameters = self._faiss.SearchParameters(sel=self._faiss.IDSelectorArray(ids))
        _, found = self._index.search(query.vector[None], K, params=parameters)
        rows: NDArray[np.int64] = found[0][found[0] >= 0]
        return rows

    def close(self) -> None:
        """Free the index."""
        self._index.reset()


class Lance:
    """A LanceDB table with a bitmap index on the cell, searched exactly after the filter."""

    name = "LanceDB, prefilter, no vector index"

    def __init__(self, data: Data) -> None:
        import lancedb
        import pyarrow as pa

        self._directory = tempfile.TemporaryDirectory(prefix="geofix-lance-")
        dim = data.vectors.shape[1]
        batches = (
            pa.table(
                {
                    "row": np.arange(first, min(first + 50_000, len(data))),
                    "cell": data.cell[first : first + 50_000],
                    "vector": pa.FixedSizeListArray.from_arrays(data.vectors[first : first + 50_000].ravel(), dim),
                }
            )
            for first in range(0, len(data), 50_000)
        )
        first = next(batches)
        self._table: Any = lancedb.connect(self._directory.name).create_table("images", first)
        for batch in batches:
            self._table.add(batch)
        self._table.create_scalar_index("cell", index_type="BITMAP")
        self._table.optimize()
        self.disk = size_of(Path(self._directory.name))

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the K best."""
        where = f"cell IN ({', '.join(map(str, query.cells))})"
        found = self._table.search(query.vector).distance_type("dot").where(where, prefilter=True)
        rows: NDArray[np.int64] = found.select(["row", "_distance"]).limit(K).to_arrow()["row"].to_numpy()
        return rows

    def close(self) -> None:
        """Remove the table."""
        self._directory.cleanup()


class Usearch:
    """An HNSW graph over everything, of whose best those in the cells are kept."""

    name = f"usearch, HNSW, {OVERFETCH} × k fetched and filtered"

    def __init__(self, data: Data) -> None:
        from usearch.index import Index

        self._cell = data.cell
        self._index: Any = Index(ndim=data.vectors.shape[1], metric="ip", dtype="f32")
        self._index.add(np.arange(len(data)), data.vectors)
        self.disk = int(self._index.serialized_length)

    def search(self, query: Query) -> NDArray[np.int64]:
        """The rows of the best that lie in the cells, at most K."""
        keys: NDArray[np.int64] = self._index.search(query.vector, OVERFETCH * K).keys.astype(np.int64)
        return keys[np.isin(self._cell[keys], query.cells)][:K]

    def close(self) -> None:
        """Free the index."""
        self._index.reset()


def size_of(directory: Path) -> int:
    """The bytes of a directory's files; files that vanish meanwhile do not count."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
