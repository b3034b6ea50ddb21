"""The rows of one gallery version in Milvus: found, written and read. Writing a row twice changes nothing."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geofix.gallery.layout import SET_ASIDE, THUMBNAILS, GalleryInfo, partition_name
from geofix.gallery.rows import ImageRow
from geofix.gallery.store import Store
from geofix.gallery.writes import upsert_message

WRITE_TIMEOUT_S = 120.0
READ_TIMEOUT_S = 60.0
_FIELDS = ["id", "cell_id", "lat", "lon", "payload"]


@dataclass(frozen=True)
class Stored:
    """What is known of an image that is in a version: its place in degrees, and its perceptual hash if it has one."""

    lat: float
    lon: float
    phash: int | None


@dataclass(frozen=True)
class ReadRow:
    """A row as it was read; `intact` says whether it is what was written."""

    row: ImageRow
    intact: bool


class Contents:
    """The rows of a version: the images that can be searched, those set aside, and the thumbnails.

    Every method raises Unavailable (GALLERY_UNAVAILABLE) where Milvus does not answer.
    """

    def __init__(self, store: Store, info: GalleryInfo) -> None:
        self._store = store
        self.info = info
        self.set_aside = info.name + SET_ASIDE
        self.thumbnails = info.name + THUMBNAILS

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections that hold the version."""
        beside = [self.set_aside] * (self.info.feature_dim > 0) + [self.thumbnails] * self.info.thumbnails
        return (self.info.name, *beside)

    def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of some images (at most 1,000) that are in the version."""
        found = {}
        for collection in [self.info.name] + [self.set_aside] * (self.info.feature_dim > 0):
            for row in self._by_id(collection, ids, ["id", "lat", "lon", "payload"]):
                phash = json.loads(row["payload"]).get("phash")
                found[str(row["id"])] = Stored(
                    float(row["lat"]), float(row["lon"]), None if phash is None else int(phash, 16)
                )
        return found

    def insert(self, rows: Sequence[ImageRow]) -> None:
        """Write rows, until Milvus has acknowledged them: those with a feature are set aside, the others can be searched.

        A row takes the place of one with its id: a call that Milvus took, and whose answer was lost, does not leave it twice.
        """
        pictures = [row for row in rows if row.thumbnail is not None] if self.info.thumbnails else []
        if pictures:  # before the rows, so that no row is there without its picture
            records = [
                {"id": row.id, "nothing": [1.0, 0.0], "jpeg": base64.b64encode(row.thumbnail or b"").decode()}
                for row in pictures
            ]
            self._write(self.thumbnails, records)
        aside = [row for row in rows if row.feature is not None]
        if aside:
            self._write(self.set_aside, [_aside_record(row) for row in aside])
        by_partition: dict[str, list[ImageRow]] = defaultdict(list)
        for row in rows:
            if row.feature is None:
                by_partition[partition_name(row.cell_id, self.info.partitions)].append(row)
        for partition, some in by_partition.items():
            message = upsert_message(self.info.name, partition, some)
            with self._store.alone():
                self._store.searches.upsert(message, WRITE_TIMEOUT_S)

    def read(
        self,
        *,
        set_aside: bool = False,
        partition: int = 0,
        after: str = "",
        limit: int = 1000,
        vectors: bool = True,
        thumbnails: bool = False,
    ) -> list[ReadRow]:
        """Up to `limit` rows in the order of their ids, from the first one after `after`: of a partition, or those set aside."""
        collection = self.set_aside if set_aside else self.info.name
        fields = _FIELDS + (["embedding"] if vectors else []) + (["feature"] if vectors and set_aside else [])
        narrow: dict[str, Any] = (
            {} if set_aside else {"partition_names": [partition_name(partition, self.info.partitions)]}
        )
        where = f'id > "{_quoted(after)}"'
        most: dict[str, Any] = {"limit": limit}
        if self._store.lite:  # a server gives the smallest ids first; Milvus Lite gives any
            ids = sorted(str(row["id"]) for row in self._query(collection, where, ["id"], **narrow))[:limit]
            where, most = f"id in {json.dumps(ids)}", {}
            if not ids:
                return []
        found = self._query(collection, where, fields, **narrow, **most)
        page = sorted((_read(record, set_aside, vectors) for record in found), key=lambda read: read.row.id)
        if not thumbnails:
            return page
        pictures = self.pictures([read.row.id for read in page])
        return [ReadRow(replace(read.row, thumbnail=pictures.get(read.row.id)), read.intact) for read in page]

    def pictures(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The thumbnails (JPEG) of those of some images that have one."""
        if not self.info.thumbnails:
            return {}
        rows = self._by_id(self.thumbnails, ids, ["id", "jpeg"], consistency="Bounded")
        return {str(row["id"]): base64.b64decode(row["jpeg"]) for row in rows}

    def count(self, *, set_aside: bool = False) -> int:
        """Rows that can be searched, or those set aside."""
        if set_aside and not self.info.feature_dim:
            return 0
        return self._store.count(self.set_aside if set_aside else self.info.name)

    def join(self, rows: Sequence[ImageRow]) -> None:
        """Put images that were set aside among those that can be searched."""
        self.insert([replace(row, feature=None) for row in rows])

    def _by_id(
        self, collection: str, ids: Sequence[str], fields: list[str], consistency: str = "Strong"
    ) -> list[Mapping[str, Any]]:
        if not ids:
            return []
        return self._query(collection, f"id in {json.dumps(list(ids))}", fields, consistency)

    def _query(
        self, collection: str, where: str, fields: list[str], consistency: str = "Strong", **more: Any
    ) -> list[Mapping[str, Any]]:
        with self._store.alone():
            found: list[Mapping[str, Any]] = self._store.client.query(
                collection,
                filter=where,
                output_fields=fields,
                consistency_level=consistency,
                timeout=READ_TIMEOUT_S,
                **more,
            )
        return found

    def _write(self, collection: str, records: list[dict[str, Any]]) -> None:
        with self._store.alone():
            self._store.client.upsert(collection, records, timeout=WRITE_TIMEOUT_S)


def _aside_record(row: ImageRow) -> dict[str, Any]:
    text = base64.b64encode(np.ascontiguousarray(row.embedding, "<f4").tobytes()).decode()
    return row.record() | {"embedding": text, "feature": row.feature}


def _read(record: Mapping[str, Any], set_aside: bool, vectors: bool) -> ReadRow:
    if not set_aside or not vectors:
        row, digest = ImageRow.from_record(record)
        return ReadRow(row, not vectors or digest == row.digest)
    embedding = np.frombuffer(base64.b64decode(record["embedding"]), "<f4").astype(np.float32)
    row, digest = ImageRow.from_record({**record, "embedding": embedding})
    feature = np.asarray(record["feature"], np.float32)
    return ReadRow(replace(row, feature=feature), digest == row.digest and bool(np.isfinite(feature).all()))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
