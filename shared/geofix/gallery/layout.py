"""How a gallery lies in Milvus: names, schema, hash partitions, and what a collection says about itself.

One collection a version, `gallery_<bundle>_<version>`, and an alias that names the live one (`Bundle.gallery_alias`). Beside a
version may lie two more collections that live and die with it: the images set aside for fitting the radii, with their backbone
features, and thumbnails. A collection's properties state which bundle it was built with, and how far it has come; only the alias
says that it is live.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from geofix.errors import MismatchError, Reason

FORMAT = "2"
METRIC = "IP"
ID_BYTES, PAYLOAD_BYTES = 64, 8192
"""Most bytes of a row's id and of its payload (the JSON of picture, attribution and the user's own fields)."""
OUTPUT_FIELDS = ("cell_id", "lat", "lon", "payload")
LEAST_PARTITIONS, MOST_PARTITIONS = 64, 1023
"""A search costs the rows of its partitions. On Milvus Lite a partition costs 2 ms once, so fewer would save nothing. A Milvus
allows a collection 1,024 by default (rootCoord.maxPartitionNum), of which `_default` is one."""
SERVER_ROWS, LITE_ROWS = 10_000, 400
"""Rows of a partition on average, at most, while there are partitions left. A server puts every partition's rows in
order on its own, so that many partitions take long to settle; on Milvus Lite, which has no index by cell, more of them leave
fewer rows of other cells to filter (benchmarks/retrieval.py)."""
SET_ASIDE, THUMBNAILS = "__set_aside", "__thumbnails"
"""Endings of the names of the two collections beside a version's."""
LABEL = "^[a-z0-9]([a-z0-9_]{0,62}[a-z0-9])?$"
"""What may follow the bundle's name in a version's; two underscores in a row are kept for the endings above."""

_PREFIX = "geofix."
_ADD = "add."


class State(StrEnum):
    """How far a version has come. Whether it is live is the alias's to say."""

    FILLING = "filling"
    """Images may be added; it cannot be searched."""
    VERIFIED = "verified"
    """Complete and checked; it can be searched and promoted."""
    JOINING = "joining"
    """Being promoted: the images set aside are being put among the others."""


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery's collection says about itself.

    Attributes:
        name: the collection's name, which is also the gallery's version.
        model_version: `<bundle>@<content hash>` of the bundle that it was built with.
        images: rows that can be searched, once verified; before that 0.
        cells: cells that hold at least one of them.
        embedding_dim: values of an embedding.
        partitions: hash partitions; a cell's rows lie in one.
        state: see `State`.
        set_aside: images kept back for fitting the radii; once `joined` they are among `images`.
        set_aside_share: share of the images that is set aside, 0 to 1.
        feature_dim: values of their features; 0 where none are set aside.
        joined: whether the images set aside were put among the others.
        thumbnails: whether thumbnails are kept beside it.
        digest: of all rows that can be searched, 16 hex digits; empty before it is verified.
        set_aside_digest: of those set aside.
        calibration: the JSON of `geofix.calibration.Calibration`, fitted on the images set aside; empty: no radius.
        previous: the version that was live before this one; empty if none was.
        created: when, ISO 8601 UTC.
        promoted: when last; empty: never.
        retired: when another took its place; empty: none has. Of the live one it means nothing.
        filled: images of both kinds that were counted when a run of `add` finished last; 0: none has.
        adds: runs of `add` by name, and whether each has finished.
    """

    name: str
    model_version: str
    images: int
    cells: int
    embedding_dim: int
    partitions: int
    state: State = State.VERIFIED
    set_aside: int = 0
    set_aside_share: float = 0.0
    feature_dim: int = 0
    joined: bool = False
    thumbnails: bool = False
    digest: str = ""
    set_aside_digest: str = ""
    calibration: str = ""
    previous: str = ""
    created: str = ""
    promoted: str = ""
    retired: str = ""
    filled: int = 0
    adds: tuple[tuple[str, bool], ...] = ()

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The runs of `add` that did not finish."""
        return tuple(name for name, finished in self.adds if not finished)

    def properties(self) -> dict[str, str]:
        """The collection properties that hold all but the name."""
        values: dict[str, object] = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in (*_INTEGERS, *_TEXTS, _FILLED)},
            "set_aside_share": self.set_aside_share,
            "state": self.state.value,
            **{name: int(getattr(self, name)) for name in _FLAGS},
            **{_ADD + name: int(finished) for name, finished in self.adds},
        }
        return {_PREFIX + name: str(value) for name, value in values.items()}

    @classmethod
    def from_properties(cls, name: str, properties: Mapping[str, str]) -> Self:
        """Read what `properties` wrote.

        Raises:
            MismatchError: GALLERY_INVALID; the collection was not written by geofix, or by another generation of it.
        """
        found = {key.removeprefix(_PREFIX): value for key, value in properties.items() if key.startswith(_PREFIX)}
        if found.get("format") != FORMAT:
            said = found.get("format", "none")
            raise MismatchError(
                f"collection {name} has gallery format {said}, this geofix reads {FORMAT}: load the gallery again",
                Reason.GALLERY_INVALID,
                {"gallery_version": name},
            )
        try:
            values: dict[str, Any] = {key: int(found[key]) for key in _INTEGERS}
            values |= {key: found[key] for key in _TEXTS}
            values |= {key: bool(int(found[key])) for key in _FLAGS}
            adds = ((key.removeprefix(_ADD), value == "1") for key, value in found.items() if key.startswith(_ADD))
            return cls(
                name=name,
                set_aside_share=float(found["set_aside_share"]),
                state=State(found["state"]),
                filled=int(found.get(_FILLED, 0)),  # galleries made by geofix before it was noted lack it
                adds=tuple(sorted(adds)),
                **values,
            )
        except (KeyError, ValueError) as error:
            raise MismatchError(
                f"collection {name} does not say what it holds ({error}): load the gallery again",
                Reason.GALLERY_INVALID,
                {"gallery_version": name},
            ) from error


_INTEGERS = ("images", "cells", "embedding_dim", "partitions", "set_aside", "feature_dim")
_FILLED = "filled"
_FLAGS = ("joined", "thumbnails")
_TEXTS = ("model_version", "digest", "set_aside_digest", "calibration", "previous", "created", "promoted", "retired")


def is_version(name: str, alias: str) -> bool:
    """Whether a collection's name is that of a version of the gallery with this alias."""
    label = name.removeprefix(f"{alias}_")
    return label != name and bool(re.match(LABEL, label)) and "__" not in label


def partition_count(rows: int, *, many: bool) -> int:
    """Hash partitions for a gallery of `rows`: few rows in each, on average; a power of two from 64 on, or 1,023."""
    wanted = max(LEAST_PARTITIONS, -(-rows // (LITE_ROWS if many else SERVER_ROWS)))
    return min(MOST_PARTITIONS, 1 << (wanted - 1).bit_length())


def partition_name(cell_id: int, partitions: int) -> str:
    """The partition that holds a cell's rows."""
    return f"p{cell_id % partitions}"


def partition_names(cell_ids: Iterable[int], partitions: int) -> list[str]:
    """The partitions that hold the rows of some cells, each once."""
    return sorted({partition_name(cell, partitions) for cell in cell_ids})


def schema(embedding_dim: int) -> Any:
    """The schema of a version's collection; nothing in it but what servers and Lite both have."""
    fields = _fields("embedding", embedding_dim)
    fields.add_field("payload", _text(), max_length=PAYLOAD_BYTES)
    return fields


def set_aside_schema(feature_dim: int) -> Any:
    """The schema of the images set aside: the feature is the vector, the embedding is text (base64)."""
    fields = _fields("feature", feature_dim)
    fields.add_field("payload", _text(), max_length=PAYLOAD_BYTES)
    fields.add_field("embedding", _text(), max_length=65_535)
    return fields


def thumbnails_schema() -> Any:
    """The schema of the thumbnails: JPEG as text (base64); the vector is there because Milvus wants one."""
    from pymilvus import DataType, MilvusClient

    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    fields.add_field("id", DataType.VARCHAR, max_length=ID_BYTES, is_primary=True)
    fields.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)
    fields.add_field("jpeg", DataType.VARCHAR, max_length=65_535)
    return fields


def _fields(vector: str, dim: int) -> Any:
    from pymilvus import DataType, MilvusClient

    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    fields.add_field("id", DataType.VARCHAR, max_length=ID_BYTES, is_primary=True)
    fields.add_field("cell_id", DataType.INT64)
    fields.add_field(vector, DataType.FLOAT_VECTOR, dim=dim)
    fields.add_field("lat", DataType.DOUBLE)
    fields.add_field("lon", DataType.DOUBLE)
    return fields


def _text() -> Any:
    from pymilvus import DataType

    return DataType.VARCHAR
