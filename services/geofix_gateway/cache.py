"""Answers in Redis. Whatever is wrong with Redis is a miss, never an error: the cache makes answers faster, not different."""

from __future__ import annotations

import hashlib
import logging
import time

import redis.asyncio as redis
from redis.exceptions import RedisError

from geofix.errors import ConfigurationError

log = logging.getLogger("geofix.cache")

PAUSE_S = 1.0
"""After a failure Redis is left alone this long, so that its time-out is not paid by every request."""
CONNECTIONS = 32
"""Most connections; further look-ups wait for one, for a burst of requests is no failure of Redis."""


def cache_key(*parts: bytes) -> str:
    """Key of an answer: a hash over everything that it depends on. Lengths are hashed too, so that parts cannot run together."""
    digest = hashlib.sha256(b"geofix answer 1")
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return "geofix:answer:" + digest.hexdigest()


class AnswerCache:
    """Serialised answers by key, with a time to live.

    Raises:
        ConfigurationError: the URL is not one of Redis.
    """

    def __init__(self, url: str, ttl_s: int, timeout_s: float) -> None:
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
            )
        except (ValueError, RedisError) as error:
            raise ConfigurationError(f"GEOFIX_REDIS_URL is not a Redis URL: {error}") from error
        self._redis = redis.Redis.from_pool(pool)
        self._ttl_s = ttl_s
        self._closed_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """The answer, or None where there is none or Redis does not answer."""
        if time.monotonic() < self._closed_until:
            return None
        try:
            value = await self._redis.get(key)
        except (RedisError, OSError) as error:
            self._failed(error)
            return None
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, answer: bytes) -> None:
        """Keep an answer, if Redis takes it."""
        if time.monotonic() < self._closed_until:
            return
        try:
            await self._redis.set(key, answer, ex=self._ttl_s)
        except (RedisError, OSError) as error:
            self._failed(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _failed(self, error: Exception) -> None:
        log.warning("Redis does not answer (%s); going on without the cache", type(error).__name__)
        self._closed_until = time.monotonic() + PAUSE_S
