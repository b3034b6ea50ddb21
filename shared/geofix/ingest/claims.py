"""Who deals with an image: so that the same bytes, met twice at the same time, become one row, and the other is reported."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

Place = tuple[float, float]
"""Latitude and longitude, WGS84 degrees."""


class Claims(Protocol):
    """Images on their way into a version, by content hash.

    To claim comes before the look into the gallery: what another has written and let go of in between is then found there.
    """

    def claim(self, places: Mapping[str, Place]) -> dict[str, Place]:
        """Claim images for their places; those that are claimed already stay so, and come back with the place that they have."""

    def release(self, ids: Iterable[str]) -> None:
        """Let go of images: the gallery holds them."""


class OwnClaims:
    """The claims of a run in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}

    def claim(self, places: Mapping[str, Place]) -> dict[str, Place]:
        """See `Claims`."""
        with self._lock:
            known = {image: self._places[image] for image in places if image in self._places}
            self._places |= {image: place for image, place in places.items() if image not in known}
        return known

    def release(self, ids: Iterable[str]) -> None:
        """See `Claims`."""
        with self._lock:
            for image in ids:
                self._places.pop(image, None)
