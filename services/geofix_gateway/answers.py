"""Answers as the bytes of a LocateResponse: from the cache, from whoever is computing the same, or computed now.

An answer is serialised once. What differs for each who asks (whether it was cached, what the request took) is appended: in
protobuf's encoding, messages that follow one another are merged field by field.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial

from geofix import images
from geofix.v1 import geolocation_service_pb2 as pb
from geofix_gateway.cache import AnswerCache, cache_key
from geofix_gateway.flights import Flights
from geofix_gateway.locate import Deadline, Locator, Options, Source
from geofix_gateway.responses import write_answer
from geofix_gateway.screen import Screen

LARGE_BYTES = 1024 * 1024
"""An image from here on is hashed in a thread: the event loop would stand still for milliseconds."""


@dataclass(frozen=True)
class Question:
    """What is asked; `key` is a hash of everything that the answer depends on."""

    source: Source
    options: Options
    gallery_version: str
    key: str


class Answers:
    """Answers over one bundle."""

    def __init__(self, locator: Locator, cache: AnswerCache, screen: Screen | None) -> None:
        self._locator = locator
        self._cache = cache
        self._screen = screen
        self._flights: Flights[bytes] = Flights()

    async def question(self, source: Source, options: Options, gallery_version: str) -> Question:
        """The question, hashed."""
        data = source.image or source.feature or b""
        parts = (
            b"image" if source.image is not None else b"feature",
            data,
            repr(options).encode(),
            images.VERSION.encode(),
            # Covers preprocessing, calibration and decision rule: it hashes the whole bundle.
            self._locator.bundle.version.encode(),
            gallery_version.encode(),
        )
        key = await asyncio.to_thread(cache_key, *parts) if len(data) > LARGE_BYTES else cache_key(*parts)
        return Question(source, options, gallery_version, key)

    async def answer(self, question: Question, left: Deadline, started: float) -> bytes:
        """The serialised LocateResponse to a question that arrived at `started`, by `time.perf_counter`.

        Raises:
            PermissionDenied: AREA_DENIED; the operator gives no answer about that place.
            GeofixError: as `Locator.locate`.
        """
        if question.options.bypass_cache:
            fresh = (await self._compute(question, left)).SerializeToString()
            return await self._shown(fresh) + _suffix(started)
        asked = time.perf_counter()
        data = None if question.key in self._flights else await self._cache.get(question.key)
        cache_ms = (time.perf_counter() - asked) * 1000
        if data is not None:
            return await self._shown(data) + _suffix(started, cache_ms, cached=True)
        data = await self._flights.run(question.key, left, partial(self._compute_and_keep, question))
        return await self._shown(data) + _suffix(started, cache_ms)

    async def _shown(self, data: bytes) -> bytes:
        return data if self._screen is None else await asyncio.to_thread(self._screen.show, data)

    async def _compute_and_keep(self, question: Question, left: Deadline) -> bytes:
        response = await self._compute(question, left)
        data = response.SerializeToString()
        if not response.degraded:
            await self._cache.put(question.key, data)
        return data

    async def _compute(self, question: Question, left: Deadline) -> pb.LocateResponse:
        answer = await self._locator.locate(question.source, question.options, question.gallery_version, left)
        return write_answer(answer, question.options, self._locator.bundle)


def _suffix(started: float, cache_ms: float = 0.0, *, cached: bool = False) -> bytes:
    total_ms = (time.perf_counter() - started) * 1000
    return pb.LocateResponse(cached=cached, timing=pb.Timing(cache_ms=cache_ms, total_ms=total_ms)).SerializeToString()
