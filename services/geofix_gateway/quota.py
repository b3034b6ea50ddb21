"""Images a minute for each caller, counted in Redis for all gateways together.

The generic cell rate algorithm (ITU-T I.371): a caller's theoretical arrival time moves on by an interval for each image, and may
run ahead of now by a minute at most. It allows a burst of the whole minute's images, then an even flow, and says exactly when
there is room again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from redis.exceptions import RedisError

from geofix.access import Caller
from geofix.errors import Overloaded, Reason, Unavailable
from geofix_gateway.breaker import Breaker
from geofix_gateway.cache import FAILURES, MOST_PAUSE_S, PAUSE_S
from geofix_gateway.redis_link import RedisLink

log = logging.getLogger("geofix.quota")

_MINUTE_US = 60_000_000
# Redis' own clock, so that gateways whose clocks differ count alike. Answers the microseconds to wait, 0 where it was charged.
_CHARGE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + tonumber(ARGV[1])
local wait = arrival - tonumber(ARGV[2]) - now
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0
"""


class Quota:
    """Charges callers.

    Args:
        url: of Redis.
        timeout_s: that Redis has to answer.
        per_minute: images; 0: there is no quota.
        fail_open: whether calls are let through while Redis cannot be asked, or refused.
        password_file: a file with Redis' password.

    Raises:
        ConfigurationError: the URL is not one of Redis, or the file of the password cannot be read.
    """

    def __init__(
        self, url: str, timeout_s: float, per_minute: int, *, fail_open: bool, password_file: Path | None = None
    ) -> None:
        self._link = RedisLink(url, timeout_s, password_file) if per_minute else None
        self._per_minute = per_minute
        self._fail_open = fail_open
        self._breaker = Breaker(FAILURES, PAUSE_S, MOST_PAUSE_S)

    async def charge(self, caller: Caller, images: int) -> None:
        """Count images that a caller asks about, cached answers too.

        Raises:
            Overloaded: QUOTA_EXCEEDED, with the pause after which they fit; without one where they never do.
            Unavailable: Redis cannot be asked, and the quota was set to hold then.
        """
        if self._link is None:
            return
        if images > self._per_minute:
            raise self._exceeded(f"{images} images at once are over", None)
        wait_us = await self._ask(self._link, caller.name, images)
        if wait_us:
            raise self._exceeded(f"{caller.name} has used up", wait_us / 1e6)

    async def close(self) -> None:
        """End the connection."""
        if self._link is not None:
            await self._link.close()

    async def _ask(self, link: RedisLink, name: str, images: int) -> int:
        cost = images * _MINUTE_US // self._per_minute
        if self._breaker.allows():
            try:
                wait = await link.call("EVAL", _CHARGE, 1, f"geofix:quota:{name}", cost, _MINUTE_US)
                self._breaker.succeeded()
                return int(wait)
            except (RedisError, OSError, TimeoutError) as error:
                self._breaker.failed()
                log.warning("quotas are not counted: Redis: %s", error or type(error).__name__)
        if self._fail_open:
            return 0
        raise Unavailable("quotas cannot be checked: Redis does not answer", metadata={"service": "redis"})

    def _exceeded(self, what: str, retry_after_s: float | None) -> Overloaded:
        limit = str(self._per_minute)
        return Overloaded(
            f"{what} the quota of {limit} images a minute",
            Reason.QUOTA_EXCEEDED,
            {"limit": limit},
            retry_after_s=retry_after_s,
        )
