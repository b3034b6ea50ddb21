"""Waiting for the answer of a call, in a task that may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def answer_of(call: Awaitable[T]) -> T:
    """The answer of a call of `grpc.aio`; where the task that waits is cancelled, so is the call.

    Where it is awaited without this, grpcio (1.85.1 and before) never frees the operations of a call that is cancelled on its
    way, 1 KB each: https://github.com/grpc/grpc/issues/43360. Here gRPC's core cancels the call, which then ends by its status as
    any other.

    Raises:
        grpc.RpcError: the call failed.
    """
    waiting = asyncio.ensure_future(_wait_for(call))
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        waiting.add_done_callback(_look_at)
        core = getattr(call, "_cython_call", None)
        if core is None:  # a call of another kind, or of a grpcio whose inner parts were renamed
            waiting.cancel()
        elif not waiting.done():
            core.cancel("cancelled by the task that waited for it")
        raise


async def _wait_for(call: Awaitable[T]) -> T:
    return await call


def _look_at(ended: asyncio.Future[T]) -> None:
    """Take what it ended with, which tells nobody anything, so that asyncio does not report it."""
    if not ended.cancelled():
        ended.exception()
