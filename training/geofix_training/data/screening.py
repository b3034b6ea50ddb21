"""What of a manifest cannot be trained on: no place, an impossible one, (0, 0), or an id that was there before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geofix.errors import InvalidInput
from geofix.geo import FloatArray

EXAMPLES = 3
"""Rows named in the report for each reason."""


def hash64(texts: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit hashes of texts, shape (n,)."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


@dataclass
class Screening:
    """Looks at a manifest's rows block by block, and counts what it leaves out.

    Attributes:
        kept: rows that may be trained on.
        left_out: reason -> rows.
        examples: reason -> the first of them.
    """

    source: str
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    _seen: list[NDArray[np.uint64]] = field(default_factory=list)

    def keep(
        self, names: Sequence[str], lat: FloatArray, lon: FloatArray, ids: NDArray[np.uint64]
    ) -> NDArray[np.bool_]:
        """Which rows of a block to keep, shape (n,).

        Raises:
            InvalidInput: a latitude is beyond ±90 where the longitude is not: the two are swapped, and no row can be trusted.
        """
        number = np.isfinite(lat) & np.isfinite(lon)
        swapped = number & (np.abs(lat) > 90) & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
        if swapped.any():
            row = int(swapped.argmax())
            raise InvalidInput(
                f"{self.source}: {names[row]} is at lat {lat[row]:g}, lon {lon[row]:g}: are lat and lon swapped? "
                "Exchange the names of the two columns, or remove the row"
            )
        reasons = {
            "without a number of degrees": ~number,
            "not on the Earth": number & ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180)),
            "at (0, 0), which stands for an unknown place": (lat == 0) & (lon == 0),
        }
        reasons["named before"] = self._repeated(ids) & ~np.any(list(reasons.values()), axis=0)
        for reason, rows in reasons.items():
            self._count(reason, [names[row] for row in np.flatnonzero(rows)[:EXAMPLES]], int(rows.sum()))
        keep = ~np.any(list(reasons.values()), axis=0)
        self._remember(ids[keep])
        self.kept += int(keep.sum())
        return np.asarray(keep)

    def skip(self, reason: str, name: str) -> None:
        """Count a row that is left out for another reason."""
        self._count(reason, [name], 1)

    def report(self) -> dict[str, object]:
        """The counts as JSON can hold them."""
        return {"kept": self.kept, "left_out": self.left_out, "examples": self.examples}

    def _count(self, reason: str, examples: list[str], rows: int) -> None:
        if rows:
            self.left_out[reason] = self.left_out.get(reason, 0) + rows
            known = self.examples.setdefault(reason, [])
            known.extend(examples[: EXAMPLES - len(known)])

    def _repeated(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        _, first = np.unique(ids, return_index=True)
        repeated = np.ones(len(ids), bool)
        repeated[first] = False
        for run in self._seen:
            at = np.minimum(np.searchsorted(run, ids), len(run) - 1)
            repeated |= run[at] == ids
        return repeated

    def _remember(self, ids: NDArray[np.uint64]) -> None:
        """Sorted runs, merged where two are of like length: a row is sorted log(rows) times, not once a block."""
        if len(ids):
            self._seen.append(np.sort(ids))
        while len(self._seen) > 1 and len(self._seen[-2]) < 2 * len(self._seen[-1]):
            self._seen[-2:] = [np.sort(np.concatenate(self._seen[-2:]))]
