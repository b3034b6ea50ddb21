"""A gallery image as a row: what belongs to it, what cannot be right, and its digest.

The digest goes into Milvus with the row, so that a later reading can tell whether the row is what was written.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofix.errors import InvalidInput, Reason
from geofix.gallery.layout import ID_BYTES, PAYLOAD_BYTES

SET_ASIDE_MOST, SET_ASIDE_SHARE = 5_000, 0.05
"""At most so many images, and at most this share of them, are set aside for fitting the radii."""
UNIT_TOLERANCE = 0.01
"""An embedding's norm is 1 to within this."""


@dataclass(frozen=True)
class ImageRow:
    """One gallery image.

    Attributes:
        id: content hash, hex; at most 64 bytes.
        lat: where it was taken, WGS84 degrees.
        lon: the same.
        cell_id: the cell that it belongs to.
        embedding: unit vector, shape (embedding_dim,).
        picture: where its picture is; empty if unknown.
        attribution: whom to credit; empty if unknown.
        fields: the user's own (title, licence, ...); text.
        phash: perceptual hash, 64 bits, where near-duplicates are looked for.
        feature: the backbone's feature, shape (feature_dim,), of an image that is set aside for fitting the radii.
        thumbnail: a small JPEG, where thumbnails are kept.
    """

    id: str
    lat: float
    lon: float
    cell_id: int
    embedding: NDArray[np.float32]
    picture: str = ""
    attribution: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    phash: int | None = None
    feature: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None

    def check(self, embedding_dim: int, cell_count: int, feature_dim: int) -> None:
        """Refuse what cannot be right.

        Raises:
            InvalidInput: naming the row; EMBEDDING_INVALID or FEATURE_INVALID for a vector of the wrong length or
                norm, else OPTION_INVALID.
        """
        if not 0 < len(self.id.encode()) <= ID_BYTES:
            raise InvalidInput(f"image {self.id!r}: an id must have 1 to {ID_BYTES} bytes", metadata={"option": "id"})
        if not (abs(self.lat) <= 90 and abs(self.lon) <= 180):  # also true for NaN
            raise InvalidInput(
                f"image {self.id}: lat {self.lat}, lon {self.lon} is not within ±90, ±180 degrees",
                metadata={"option": "location"},
            )
        if not 0 <= self.cell_id < cell_count:
            raise InvalidInput(
                f"image {self.id}: cell {self.cell_id} is not one of the bundle's {cell_count} cells",
                metadata={"option": "cell_id"},
            )
        if self.embedding.shape != (embedding_dim,):
            raise InvalidInput(
                f"image {self.id}: its embedding has {self.embedding.size} values, this model's has {embedding_dim}",
                Reason.EMBEDDING_INVALID,
                {"expected_bytes": str(4 * embedding_dim), "bytes": str(4 * self.embedding.size)},
            )
        norm = float(np.linalg.norm(self.embedding))
        if not abs(norm - 1) <= UNIT_TOLERANCE:  # also true for a value that is not finite
            raise InvalidInput(
                f"image {self.id}: its embedding has norm {norm:.3f}; it must be a unit vector",
                Reason.EMBEDDING_INVALID,
                {"norm": f"{norm:.6g}"},
            )
        if self.feature is not None and not (self.feature.shape == (feature_dim,) and np.isfinite(self.feature).all()):
            raise InvalidInput(
                f"image {self.id}: its feature has {self.feature.size} values or some that are not finite; this version keeps "
                f"features of {feature_dim}",
                Reason.FEATURE_INVALID,
                {"expected_bytes": str(4 * feature_dim), "bytes": str(4 * self.feature.size)},
            )
        if len(self.payload().encode()) > PAYLOAD_BYTES:
            raise InvalidInput(
                f"image {self.id}: picture, attribution and fields take more than {PAYLOAD_BYTES} bytes together",
                metadata={"option": "fields"},
            )

    def payload(self) -> str:
        """The JSON text that is kept beside the vector."""
        return self._payload

    @cached_property
    def _payload(self) -> str:
        said: dict[str, Any] = {"picture": self.picture, "attribution": self.attribution}
        if self.fields:
            said["fields"] = dict(self.fields)
        if self.phash is not None:
            said["phash"] = f"{self.phash:016x}"
        said["digest"] = f"{self.digest:016x}"
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def digest(self) -> int:
        """64 bits of the SHA-256 of everything but feature and thumbnail."""
        text = json.dumps(
            [self.id, self.picture, self.attribution, sorted(self.fields.items()), self.phash], ensure_ascii=False
        )
        digest = hashlib.sha256(text.encode())
        digest.update(struct.pack("<ddq", self.lat, self.lon, self.cell_id))
        digest.update(np.ascontiguousarray(self.embedding, "<f4").tobytes())
        return int.from_bytes(digest.digest()[:8])

    def record(self) -> dict[str, Any]:
        """The row as Milvus takes it."""
        return {
            "id": self.id,
            "cell_id": self.cell_id,
            "embedding": self.embedding,
            "lat": self.lat,
            "lon": self.lon,
            "payload": self.payload(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> tuple[ImageRow, int | None]:
        """The row that Milvus gives back, and the digest that was written with it (None where there is none)."""
        payload = json.loads(record["payload"])
        row = cls(
            id=str(record["id"]),
            lat=float(record["lat"]),
            lon=float(record["lon"]),
            cell_id=int(record["cell_id"]),
            embedding=np.asarray(record.get("embedding", ()), np.float32),
            picture=str(payload.get("picture", "")),
            attribution=str(payload.get("attribution", "")),
            fields={str(key): str(value) for key, value in payload.get("fields", {}).items()},
            phash=int(payload["phash"], 16) if "phash" in payload else None,
        )
        return row, int(payload["digest"], 16) if "digest" in payload else None


def is_set_aside(image_id: str, share: float) -> bool:
    """Whether an image is one of the `share` (0 to 1) that is set aside: by a hash of its id, so always the same ones."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8]) < share * 2.0**64


def set_aside_share(expected_images: int) -> float:
    """The share to set aside of a gallery that will hold about so many images."""
    return min(SET_ASIDE_SHARE, SET_ASIDE_MOST / max(1, expected_images))
