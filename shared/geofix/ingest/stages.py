"""The stages between an item of a source and a row, as functions of what they are given: an engine strings them together.

load(item) -> Loaded       the bytes, the content hash, the place
prepare_image(loaded, ..)  the network's input, the thumbnail, the perceptual hash
make_rows(..)              with feature and embedding: the row
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geofix.cells import Cells
from geofix.errors import InvalidInput
from geofix.gallery.rows import UNIT_TOLERANCE, ImageRow, is_set_aside
from geofix.images import ImageLimits, Preprocessing, decode, prepare
from geofix.ingest.exif import exif_place
from geofix.ingest.items import Item, Skipped, Why

ID_DIGITS = 32
"""Hex digits of a content hash: 128 bits of the SHA-256 of the file's bytes."""
THUMBNAIL_PIXELS, THUMBNAIL_QUALITY = 128, 80


@dataclass(frozen=True)
class Loaded:
    """An item with its content hash and its place (lat, lon in degrees); `data` is empty for an item that brings a vector."""

    item: Item
    id: str
    place: tuple[float, float]
    data: bytes = b""


@dataclass(frozen=True)
class Wanted:
    """What to make of an image's pixels.

    Attributes:
        preprocessing: for the network's input; None: no input, for services take the file.
        thumbnail: whether to make one.
        phash: whether to compute the perceptual hash.
        limits: on bytes and pixels.
    """

    preprocessing: Preprocessing | None
    thumbnail: bool = False
    phash: bool = False
    limits: ImageLimits = field(default_factory=ImageLimits)

    @property
    def decode_to(self) -> int:
        """Pixels a side that a JPEG is decoded to at least, as for `decode`: enough for a thumbnail.

        To a network of as many pixels as a thumbnail, or more, a query of the same file looks the very same.
        """
        least = 2 * THUMBNAIL_PIXELS
        if self.preprocessing is None:
            return least
        return max(self.preprocessing.decode_to, least) if self.preprocessing.decode_to else 0


@dataclass(frozen=True)
class Prepared:
    """A loaded image with what was asked for: network input of shape (3, height, width), JPEG, 64-bit hash."""

    loaded: Loaded
    pixels: NDArray[np.float32] | None = None
    thumbnail: bytes | None = None
    phash: int | None = None


def load(item: Item, limits: ImageLimits = ImageLimits()) -> Loaded | Skipped:
    """Read an item's file, hash it, and find out where it was taken."""
    vector = item.embedding if item.feature is None else item.feature
    if vector is not None:
        assert item.place is not None
        digest = hashlib.sha256(np.ascontiguousarray(vector, "<f4").tobytes()).hexdigest()
        return Loaded(item, item.id or digest[:ID_DIGITS], item.place)
    data = _bytes_of(item, limits)
    if isinstance(data, Skipped):
        return data
    place = item.place or exif_place(item.name, data)
    if isinstance(place, Skipped):
        return place
    return Loaded(item, hashlib.sha256(data).hexdigest()[:ID_DIGITS], place, data)


def _bytes_of(item: Item, limits: ImageLimits) -> bytes | Skipped:
    data = item.data
    if data is None:
        assert item.path is not None
        try:
            with item.path.open("rb") as file:
                data = file.read(limits.max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            return Skipped(item.name, Why.NO_FILE, str(item.path))
        except OSError as error:
            return Skipped(item.name, Why.UNREADABLE, error.strerror or type(error).__name__)
    if len(data) > limits.max_bytes:
        return Skipped(item.name, Why.UNREADABLE, f"over {limits.max_bytes:,} bytes")
    return data or Skipped(item.name, Why.NOT_AN_IMAGE, "the file is empty")


def prepare_image(loaded: Loaded, wanted: Wanted) -> Prepared | Skipped:
    """Decode an image once, and make of it what is wanted."""
    if not loaded.data:
        return Prepared(loaded)
    try:
        image = decode(loaded.data, wanted.limits, wanted.decode_to)
    except InvalidInput as error:
        return Skipped(loaded.item.name, Why.UNREADABLE, error.message)
    phash = None
    if wanted.phash:
        from geofix.ingest.near import perceptual_hash

        phash = perceptual_hash(image)
    pixels = prepare(image, wanted.preprocessing) if wanted.preprocessing is not None else None
    return Prepared(loaded, pixels, _thumbnail(image) if wanted.thumbnail else None, phash)


def make_rows(
    images: Sequence[Prepared],
    features: Sequence[NDArray[np.float32] | None],
    embeddings: NDArray[np.float32],
    cells: Cells,
    set_aside_share: float,
) -> list[ImageRow]:
    """The rows of images with their embeddings, shape (n, embedding_dim); a feature stays with those that are set aside."""
    cell_ids = cells.assign([i.loaded.place[0] for i in images], [i.loaded.place[1] for i in images])
    return [
        ImageRow(
            id=image.loaded.id,
            lat=image.loaded.place[0],
            lon=image.loaded.place[1],
            cell_id=int(cell),
            embedding=np.asarray(embedding, np.float32),
            picture=image.loaded.item.picture,
            attribution=image.loaded.item.attribution,
            fields={"file": image.loaded.item.name, **image.loaded.item.fields},
            phash=image.phash,
            feature=feature if feature is not None and is_set_aside(image.loaded.id, set_aside_share) else None,
            thumbnail=image.thumbnail,
        )
        for image, feature, embedding, cell in zip(images, features, embeddings, cell_ids, strict=True)
    ]


def bad_vector(item: Item, feature_dim: int, embedding_dim: int) -> Skipped | None:
    """Why the vector that an item brings cannot be right, or None."""
    for name, vector, dim in (("feature", item.feature, feature_dim), ("embedding", item.embedding, embedding_dim)):
        if vector is None:
            continue
        if vector.shape != (dim,):
            return Skipped(item.name, Why.BAD_VECTOR, f"its {name} has {vector.size} values, this bundle's has {dim}")
        if not np.isfinite(vector).all():
            return Skipped(item.name, Why.BAD_VECTOR, f"its {name} has values that are not finite")
        norm = float(np.linalg.norm(vector))
        if name == "embedding" and abs(norm - 1) > UNIT_TOLERANCE:
            return Skipped(item.name, Why.BAD_VECTOR, f"its embedding has norm {norm:.3f}, not 1")
    return None


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
