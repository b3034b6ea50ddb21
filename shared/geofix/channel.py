"""Channels between services: message limits, load balancing, keepalive, and the retry of calls that never reached a server.

Retries are gRPC's own (gRFC A6), not a loop of ours: they know which calls never left, keep to the caller's deadline, add
jitter to the pause, and share one token bucket among all channels to the same target.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc

from geofix.tls import PeerCredentials

MOST_ATTEMPTS = 3
RETRY_TOKENS = 100
"""Size of a target's token bucket: each failure takes a token, and there are no retries while it is half empty. So a service
that is down is asked three times by its first calls and once by the rest, not by all when it can bear it least."""
TOKENS_BACK = 0.1
"""Tokens that a call that succeeds brings back: in the long run at most one retry in ten calls."""

LONGEST_CALL_S = 60.0
"""Calls over a channel whose credentials were rotated get so long to end."""

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": MOST_ATTEMPTS,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    # A server that closes answers CANCELLED to a call that it has received and not yet begun.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": RETRY_TOKENS, "tokenRatio": TOKENS_BACK},
    }
)


def channel_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Options of every channel: limits both ways, round robin over a name, retries of what no server has begun."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.service_config", _SERVICE_CONFIG),
        # A service that was down is looked for again within a second, not after gRPC's default of up to two minutes.
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # It is also the time that one attempt to connect may take: a far or busy server needs more than its backoff.
        ("grpc.min_reconnect_backoff_ms", 2000),
        # A name is looked up again when a connection ends, but not more often than this: new replicas are found within it.
        ("grpc.dns_min_time_between_resolutions_ms", 5000),
        # A peer that is frozen or cut off still looks connected: without an answer to a ping its connection is given up.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    address: str, max_message_bytes: int = 32 * 1024 * 1024, peer: PeerCredentials | None = None
) -> grpc.aio.Channel:
    """An asyncio channel to `address` (host:port, or dns:///name:port for all addresses of a name); by TLS with `peer`."""
    options = channel_options(max_message_bytes)
    if peer is None:
        return grpc.aio.insecure_channel(address, options=options)
    return cast(grpc.aio.Channel, _RotatingChannel(address, options, peer))


class _RotatingChannel:
    """A channel that makes itself anew when its credentials have changed; calls that have begun end on the old one."""

    def __init__(self, address: str, options: Sequence[tuple[str, int | str]], peer: PeerCredentials) -> None:
        self._address, self._options, self._peer = address, options, peer
        self._credentials = peer.get()
        self._channel = grpc.aio.secure_channel(address, self._credentials, options=options)
        self._ending: set[asyncio.Task[None]] = set()

    def unary_unary(self, *method: Any, **serializers: Any) -> Callable[..., Any]:
        """As `grpc.aio.Channel.unary_unary`; which channel a call goes over is decided when it begins."""
        made: tuple[grpc.aio.Channel, Any] | None = None

        def call(*request: Any, **how: Any) -> Any:
            nonlocal made
            channel = self._current()
            if made is None or made[0] is not channel:
                made = channel, channel.unary_unary(*method, **serializers)
            return made[1](*request, **how)

        return call

    def unary_stream(self, *method: Any, **serializers: Any) -> Callable[..., Any]:
        """As `grpc.aio.Channel.unary_stream`; health's Watch is one."""
        return self._current().unary_stream(*method, **serializers)

    async def close(self, grace: float | None = None) -> None:
        """Close it, and what is left of those before it."""
        for task in self._ending:
            task.cancel()
        await self._channel.close(grace)

    async def __aenter__(self) -> _RotatingChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _current(self) -> grpc.aio.Channel:
        credentials = self._peer.get()
        if credentials is not self._credentials:
            old, self._credentials = self._channel, credentials
            self._channel = grpc.aio.secure_channel(self._address, credentials, options=self._options)
            task = asyncio.create_task(old.close(LONGEST_CALL_S))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        return self._channel
