"""Exact search in one version of the gallery."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofix.gallery.contents import Contents
from geofix.gallery.layout import METRIC, OUTPUT_FIELDS, GalleryInfo, partition_names
from geofix.gallery.store import CALL_TIMEOUT_S, Store


@dataclass(frozen=True)
class Hit:
    """A gallery image near a query: its place in degrees, the inner product of the two embeddings, what was kept with it."""

    id: str
    cell_id: int
    lat: float
    lon: float
    similarity: float
    picture: str
    attribution: str
    fields: Mapping[str, str] = field(default_factory=dict)


class Gallery:
    """One loaded version of the gallery."""

    def __init__(self, store: Store, info: GalleryInfo) -> None:
        self._store = store
        self.info = info

    def search(
        self, embedding: NDArray[np.float32], cells: Sequence[int], k: int, timeout_s: float = CALL_TIMEOUT_S
    ) -> list[Hit]:
        """The min(k, images in `cells`) images nearest to a unit embedding, shape (embedding_dim,); without cells, of all images.

        Exact: the index is FLAT. Most similar first; equal ones by id.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE.
        """
        where: dict[str, Any] = {}
        if cells:
            wanted = sorted(set(cells))
            where = {
                "filter": f"cell_id in {wanted}",
                "partition_names": partition_names(wanted, self.info.partitions),
            }
        with self._store.errors():
            found = self._store.client.search(
                self.info.name,
                data=[embedding.tolist()],
                anns_field="embedding",
                limit=k,
                output_fields=list(OUTPUT_FIELDS),
                search_params={"metric_type": METRIC},
                # Strong would wait 0.3 s a search on a server for rows that nobody is writing.
                consistency_level="Bounded",
                timeout=timeout_s,
                **where,
            )
            hits = [_hit(row) for row in found[0]]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.id))

    def thumbnails(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The thumbnails, JPEG, of those of some images that have one.

        Raises:
            Unavailable: GALLERY_UNAVAILABLE.
        """
        return Contents(self._store, self.info).pictures(ids)


def _hit(row: Mapping[str, Any]) -> Hit:
    entity = row["entity"]
    payload = json.loads(entity["payload"])
    return Hit(
        id=str(row["id"]),
        cell_id=int(entity["cell_id"]),
        lat=float(entity["lat"]),
        lon=float(entity["lon"]),
        similarity=float(row["distance"]),
        picture=str(payload.get("picture", "")),
        attribution=str(payload.get("attribution", "")),
        fields={str(name): str(value) for name, value in payload.get("fields", {}).items()},
    )
