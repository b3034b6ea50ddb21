"""What a search asks of its hits beside the cell: an area, fields of the payload, a least similarity.

Milvus gets a box of degrees, which every Milvus understands, and into which no text of a user's goes. The rest is checked on the
rows that come back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geofix.area import Area, Box
from geofix.gallery.calls import Row


@dataclass(frozen=True)
class Narrowing:
    """Conditions on the hits, all of which must hold.

    Attributes:
        area: where they lie.
        fields: names of fields that were kept with the images, each with the values that it may have.
        min_similarity: the least inner product; the cosine, for unit vectors.
    """

    area: Area | None = None
    fields: tuple[tuple[str, frozenset[str]], ...] = ()
    min_similarity: float = -np.inf

    @property
    def in_milvus(self) -> bool:
        """Whether Milvus itself leaves out all that does not belong, but for what is not similar enough."""
        return not self.fields and (self.area is None or isinstance(self.area, Box))

    def expression(self) -> str:
        """A condition for Milvus that every row that belongs fulfils; empty: none."""
        boxes = () if self.area is None else self.area.bounds()
        if any(box.south <= -90 and box.north >= 90 and box.west <= -180 and box.east >= 180 for box in boxes):
            return ""
        return " or ".join(f"({_inside(box)})" for box in boxes)

    def admits(self, rows: Sequence[Row]) -> list[bool]:
        """Which rows belong."""
        inside = np.array([row.similarity >= self.min_similarity for row in rows], bool)
        if self.area is not None and len(rows):
            inside &= self.area.contains([row.lat for row in rows], [row.lon for row in rows])
        admitted: list[bool] = inside.tolist()
        return (
            [yes and self._has_fields(row) for yes, row in zip(admitted, rows, strict=True)]
            if self.fields
            else admitted
        )

    def _has_fields(self, row: Row) -> bool:
        kept = json.loads(row.payload).get("fields", {})
        return all(str(kept.get(name, "")) in values for name, values in self.fields)


ANY = Narrowing()
"""Admits every row."""


def _inside(box: Box) -> str:
    # repr gives back the very same float.
    limits = (("lat >=", box.south), ("lat <=", box.north), ("lon >=", box.west), ("lon <=", box.east))
    return " and ".join(f"{side} {float(value)!r}" for side, value in limits)
