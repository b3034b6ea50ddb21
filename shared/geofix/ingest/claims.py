"""Who deals with an image: so that the same bytes, met twice at the same time, become one row, and the other is reported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

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


class Book:
    """The claims of all parts that are being worked on. An actor: one call at a time."""

    def __init__(self) -> None:
        self._claims = OwnClaims()
        self._of_part: dict[int, set[str]] = {}

    def begin(self, part: int) -> None:
        """Work on a part begins: what a worker that died had claimed for it is free."""
        self._claims.release(self._of_part.pop(part, ()))

    def claim(self, part: int, places: Mapping[str, Place]) -> dict[str, Place]:
        """See `Claims`."""
        known = self._claims.claim(places)
        self._of_part.setdefault(part, set()).update(places.keys() - known.keys())
        return known

    def release(self, part: int, ids: Iterable[str]) -> None:
        """See `Claims`."""
        self._claims.release(ids)
        self._of_part.get(part, set()).difference_update(ids)


class BookClaims:
    """The claims of a part, in the book of all, an actor of Ray; `get` waits for its answer."""

    def __init__(self, book: Any, part: int, get: Callable[[Any], Any]) -> None:
        self._book, self._part, self._get = book, part, get
        self._get(book.begin.remote(part))

    def claim(self, places: Mapping[str, Place]) -> dict[str, Place]:
        """See `Claims`."""
        known: dict[str, Place] = self._get(self._book.claim.remote(self._part, dict(places)))
        return known

    def release(self, ids: Iterable[str]) -> None:
        """See `Claims`."""
        self._book.release.remote(self._part, list(ids))
