"""Channels between services: message limits, load balancing, and the retry of calls that never reached a server."""

from __future__ import annotations

import json

import grpc

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
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
    ]


def open_channel(address: str, max_message_bytes: int = 32 * 1024 * 1024) -> grpc.aio.Channel:
    """An asyncio channel to `address` (host:port, or dns:///name:port for all addresses of a name)."""
    return grpc.aio.insecure_channel(address, options=channel_options(max_message_bytes))
