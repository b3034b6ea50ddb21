"""How a gallery lies in Milvus: names, schema, hash partitions, and what a collection says about itself.

One collection a version and an alias that names the live one (`Bundle.gallery_version`, `Bundle.gallery_alias`). A collection's
properties state which bundle it was built with and how much belongs in it; only the alias says that it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from geofix.errors import MismatchError, Reason

FORMAT = "1"
METRIC = "IP"
ID_BYTES, PAYLOAD_BYTES = 64, 4096
"""Most bytes of a row's id and of its payload (the JSON of picture and attribution)."""
OUTPUT_FIELDS = ("cell_id", "lat", "lon", "payload")
LEAST_PARTITIONS, MOST_PARTITIONS = 64, 1024
"""A search costs the rows of its partitions. On Milvus Lite a partition costs 2 ms once, so fewer would save nothing; Milvus
allows 1,024 a collection."""
ROWS_PER_PARTITION = 10_000

_PREFIX = "geofix."


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery's collection says about itself.

    Attributes:
        name: the collection's name, which is also the gallery's version.
        model_version: `<bundle>@<content hash>` of the bundle that it was built with.
        images: rows of a complete load.
        cells: cells that hold at least one image.
        embedding_dim: values of an embedding.
        partitions: hash partitions; a cell's rows lie in one.
    """

    name: str
    model_version: str
    images: int
    cells: int
    embedding_dim: int
    partitions: int

    def properties(self) -> dict[str, str]:
        """The collection properties that hold all but the name."""
        return {
            f"{_PREFIX}format": FORMAT,
            f"{_PREFIX}model_version": self.model_version,
            f"{_PREFIX}images": str(self.images),
            f"{_PREFIX}cells": str(self.cells),
            f"{_PREFIX}embedding_dim": str(self.embedding_dim),
            f"{_PREFIX}partitions": str(self.partitions),
        }

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
            numbers = {key: int(found[key]) for key in ("images", "cells", "embedding_dim", "partitions")}
            return cls(name=name, model_version=found["model_version"], **numbers)
        except (KeyError, ValueError) as error:
            raise MismatchError(
                f"collection {name} does not say what it holds ({error}): load the gallery again",
                Reason.GALLERY_INVALID,
                {"gallery_version": name},
            ) from error


def partition_count(rows: int) -> int:
    """Hash partitions for a gallery of `rows`: at most 10,000 rows in each, on average, within 64 to 1,024; a power of two."""
    wanted = max(LEAST_PARTITIONS, -(-rows // ROWS_PER_PARTITION))
    return min(MOST_PARTITIONS, 1 << (wanted - 1).bit_length())


def partition_name(cell_id: int, partitions: int) -> str:
    """The partition that holds a cell's rows."""
    return f"p{cell_id % partitions}"


def partition_names(cell_ids: Iterable[int], partitions: int) -> list[str]:
    """The partitions that hold the rows of some cells, each once."""
    return sorted({partition_name(cell, partitions) for cell in cell_ids})


def schema(embedding_dim: int) -> Any:
    """The collection's schema; nothing in it but what servers and Lite both have."""
    from pymilvus import DataType, MilvusClient

    fields = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    fields.add_field("id", DataType.VARCHAR, max_length=ID_BYTES, is_primary=True)
    fields.add_field("cell_id", DataType.INT64)
    fields.add_field("embedding", DataType.FLOAT_VECTOR, dim=embedding_dim)
    fields.add_field("lat", DataType.DOUBLE)
    fields.add_field("lon", DataType.DOUBLE)
    fields.add_field("payload", DataType.VARCHAR, max_length=PAYLOAD_BYTES)
    return fields
