"""Channels between services: message limits, load balancing, keepalive, and the retry of calls that never reached a server.

Retries are gRPC's own (gRFC A6), not a loop of ours: they know which calls never left, keep to the caller's deadline, add
jitter to the pause, and share one token bucket among all channels to the same target.
"""

from __future__ import annotations

import json

import grpc

MOST_ATTEMPTS = 3
RETRY_TOKENS = 100
"""Size of a target's token bucket: each UNAVAILABLE takes a token, and there are no retries while it is half empty. So a service
that is down is asked three times by its first calls and once by the rest, not by all when it can bear it least."""
TOKENS_BACK = 0.1
"""Tokens that a call that succeeds brings back: in the long run at most one retry in ten calls."""

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
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": RETRY_TOKENS, "tokenRatio": TOKENS_BACK},
    }
)


def channel_options(max_message_bytes: int) -> list[tuple[str, int | str]]:
    """Options of every channel: limits both ways, round robin over the addresses of a name, retries on UNAVAILABLE only."""
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


def open_channel(address: str, max_message_bytes: int = 32 * 1024 * 1024) -> grpc.aio.Channel:
    """An asyncio channel to `address` (host:port, or dns:///name:port for all addresses of a name)."""
    return grpc.aio.insecure_channel(address, options=channel_options(max_message_bytes))
