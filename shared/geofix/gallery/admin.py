"""What can be done to the versions of a gallery, whoever does it: this process with an open Milvus, or a retrieval service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geofix.gallery.contents import ReadRow, Stored
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import ImageRow
from geofix.gallery.search import Gallery, Hit
from geofix.gallery.versions import GalleryVersions, Summary

Query = tuple[NDArray[np.float32], Sequence[int], int]
"""A unit embedding, the cells to search (none: all), and how many neighbours."""


class GalleryAdmin(Protocol):
    """See `GalleryVersions` and `Contents` for what each does and raises; all of it may be repeated."""

    def versions(self) -> tuple[list[GalleryInfo], str | None]:
        """All versions, oldest first, and the live one's name."""

    def create(self, label: str, expected_images: int, *, thumbnails: bool = False) -> GalleryInfo:
        """An empty version."""

    def begin_add(self, version: str, job: str) -> GalleryInfo:
        """A run of `add` begins."""

    def find(self, version: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of some images, at most 1,000, that are in a version."""

    def insert(self, version: str, rows: Sequence[ImageRow]) -> None:
        """Put images into a version."""

    def finish_add(self, version: str, job: str, added: int = 0) -> GalleryInfo:
        """A run of `add` has finished, having added so many; without a name, all have."""

    def read(
        self,
        version: str,
        *,
        set_aside: bool = False,
        partition: int = 0,
        after: str = "",
        limit: int = 1000,
        vectors: bool = True,
        thumbnails: bool = False,
    ) -> list[ReadRow]:
        """A page of rows."""

    def search(self, version: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """The neighbours of each query."""

    def seal(self, version: str, summary: Summary) -> GalleryInfo:
        """Mark a version as verified."""

    def restore(self, wanted: GalleryInfo) -> GalleryInfo:
        """Make the version that a backup describes, or mark it as it was."""

    def promote(self, version: str, calibration: str) -> GalleryInfo:
        """Make a version live."""

    def rollback(self, known: str = "") -> GalleryInfo:
        """Go back to the version before the one that is known to be live."""

    def delete(self, version: str, *, force: bool = False) -> None:
        """Delete a version."""

    def close(self) -> None:
        """Close the connection."""


class DirectAdmin(GalleryVersions):
    """Administration of a Milvus that this process has open; it takes over the store."""

    def versions(self) -> tuple[list[GalleryInfo], str | None]:
        """All versions, oldest first, and the live one's name."""
        return self.all(), self.live()

    def find(self, version: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of some images, at most 1,000, that are in a version."""
        return self.contents(version).find(ids)

    def read(
        self,
        version: str,
        *,
        set_aside: bool = False,
        partition: int = 0,
        after: str = "",
        limit: int = 1000,
        vectors: bool = True,
        thumbnails: bool = False,
    ) -> list[ReadRow]:
        """A page of rows."""
        contents = self.contents(version)
        return contents.read(
            set_aside=set_aside, partition=partition, after=after, limit=limit, vectors=vectors, thumbnails=thumbnails
        )

    def search(self, version: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """The neighbours of each query."""
        gallery = Gallery(self.store, self.contents(version).info)
        return [gallery.search(embedding, cells, k) for embedding, cells, k in queries]

    def close(self) -> None:
        """Close the connection, and an embedded Milvus with it."""
        self.store.close()
