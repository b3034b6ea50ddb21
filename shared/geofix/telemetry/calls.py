"""What is seen of every call that a service answers: rate, errors, duration, a span, and a log line for what went wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Any, Self

import grpc

from geofix.errors import GeofixError
from geofix.telemetry.metrics import CALL_SECONDS, CALLS, CALLS_IN_FLIGHT
from geofix.telemetry.spans import server_span, tracing_is_on

log = logging.getLogger("geofix.calls")

_OURS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
"""Codes of failures that an operator wants to see; the rest is the client's, or is load."""


class ObservedCall:
    """A context manager around one call.

    Args:
        method: `/package.Service/Method`, of a service of ours: it becomes a label.
        context: of the call.
    """

    __slots__ = ("_begun", "_error", "_method", "_span")

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._method = method
        self._error: GeofixError | None = None
        metadata = (context.invocation_metadata() or ()) if tracing_is_on() else ()
        self._span = server_span(method.removeprefix("/"), metadata)

    def failed(self, error: GeofixError) -> None:
        """It will be answered with this error."""
        self._error = error

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        self._span.__enter__()
        CALLS_IN_FLIGHT.add(1, self._method)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        elapsed = time.perf_counter() - self._begun
        known = self._error
        code, reason = self._outcome(error)
        CALLS_IN_FLIGHT.add(-1, self._method)
        CALL_SECONDS.observe(elapsed, self._method)
        CALLS.add(1, self._method, code, reason)
        if known is not None:
            level = logging.WARNING if known.code in _OURS else logging.DEBUG
            if log.isEnabledFor(level):  # of the error only its reason: its message may quote the client
                log.log(level, "%s ended with %s %s after %.0f ms", self._method, code, reason, elapsed * 1000)
        self._span.set(code=code, reason=reason)
        failed = known is None or known.code in _OURS  # a client's mistake is no error of the server's span
        cause = known or error  # what the client is told, rather than the exception that ends the handler
        self._span.__exit__(type(cause) if cause and failed else None, cause if failed else None, trace)

    def _outcome(self, error: BaseException | None) -> tuple[str, str]:
        if self._error is not None:
            return self._error.code.name, self._error.reason.value
        if error is None:
            return "OK", ""
        return ("CANCELLED" if isinstance(error, asyncio.CancelledError) else "UNKNOWN"), ""
