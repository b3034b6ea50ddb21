"""Answers in Redis. Whatever is wrong with Redis is a miss, never an error: the cache makes answers faster, not different."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from pathlib import Path

import zstandard
from redis.exceptions import RedisError

from geofix.telemetry.metrics import CACHE_LOOKUPS
from geofix.telemetry.stages import stage
from geofix_gateway.breaker import Breaker
from geofix_gateway.redis_link import RedisLink

log = logging.getLogger("geofix.cache")

FAILURES = 3
"""Failures in a row after which Redis is left alone."""
PAUSE_S, MOST_PAUSE_S = 0.25, 2.0
"""Shortest and longest pause between attempts then."""
TTL_JITTER = 0.1
"""Share of its life by which an entry's may be shorter, so that what was cached together does not go together."""
MOST_ANSWER_BYTES = 16 * 1024 * 1024
"""No entry grows beyond this, whoever wrote it."""
LEVEL = 1
"""Of zstd: a third of an answer's size. zlib's fastest level makes it as small, and takes four times as long to read."""


def cache_key(*parts: bytes) -> str:
    """Key of an answer: a hash over everything that it depends on. Lengths are hashed too, so that parts cannot run together."""
    digest = hashlib.sha256(b"geofix answer 2")
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return "geofix:answer:" + digest.hexdigest()


class Packing:
    """Answers to entries and back: zstd with a checksum. For one thread; making its parts anew costs more than their work."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, answer: bytes) -> bytes:
        """An entry."""
        return self._compressor.compress(answer)

    def unpack(self, entry: bytes) -> bytes | None:
        """The answer of an entry; None where it is damaged."""
        try:
            if not 0 < zstandard.frame_content_size(entry) <= MOST_ANSWER_BYTES:
                return None
            return self._decompressor.decompress(entry)
        except zstandard.ZstdError:
            return None


class AnswerCache:
    """Serialised answers by key, with a time to live.

    Raises:
        ConfigurationError: the URL is not one of Redis, or the file of the password cannot be read.
    """

    def __init__(self, url: str, ttl_s: int, timeout_s: float, password_file: Path | None = None) -> None:
        self._link = RedisLink(url, timeout_s, password_file)
        self._ttl_s = ttl_s
        self._packing = Packing()
        self._breaker = Breaker(FAILURES, PAUSE_S, MOST_PAUSE_S)

    @property
    def is_left_alone(self) -> bool:
        """Whether Redis failed and is left alone for a while."""
        return self._breaker.is_open

    def count_from_zero(self) -> None:
        """Begin the counts of look-ups, so that what never happens is a zero and not missing."""
        for result in ("hit", "miss", "error"):
            CACHE_LOOKUPS.add(0, result)

    async def get(self, key: str) -> bytes | None:
        """The answer, or None where there is none, it is damaged, or Redis does not answer."""
        with stage("cache") as lookup:
            entry, answered = await self._call("GET", key)
            answer = self._packing.unpack(entry) if isinstance(entry, bytes) else None
            result = "error" if not answered else "miss" if answer is None else "hit"
            lookup.set(result=result)
        CACHE_LOOKUPS.add(1, result)
        return answer

    async def put(self, key: str, answer: bytes) -> None:
        """Keep an answer, if Redis takes it."""
        ttl_ms = round(self._ttl_s * 1000 * (1 - TTL_JITTER * random.random()))  # noqa: S311  # no secret
        await self._call("SET", key, self._packing.pack(answer), "PX", ttl_ms)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def _call(self, *command: str | bytes | int) -> tuple[object, bool]:
        """Redis's reply, and whether it gave one."""
        if not self._breaker.allows():
            return None, False
        begun = time.monotonic()
        try:
            reply: object = await self._link.call(*command)
        except (RedisError, OSError) as error:  # TimeoutError among them
            was_open = self._breaker.is_open
            self._breaker.failed(begun)
            if self._breaker.is_open:
                await self._link.reset()
            if self._breaker.is_open and not was_open:
                log.warning("Redis does not answer (%s); going on without the cache", type(error).__name__)
            return None, False
        self._breaker.succeeded()
        return reply, True
