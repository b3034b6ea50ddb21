"""Spans where tracing is on; where it is off, one object that does nothing.

Spans hold numbers, versions and names of our own, never an image, the message of an exception or any other text of a client. Of
the caller's context only `traceparent` is taken: `tracestate` and baggage are free text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Literal, Protocol, Self

Value = str | int | float | bool
Attributes = Mapping[str, Value]
Kind = Literal["internal", "server", "client"]
TRACEPARENT = "traceparent"


class Span(Protocol):
    """A context manager around the work that it measures."""

    def set(self, **attributes: Value) -> None:
        """Add attributes `geofix.<name>`."""

    def __enter__(self) -> Self:
        """Begin; spans begun inside are below this one."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; an exception that passes makes the span an error, by its reason alone."""


class Tracing(Protocol):
    """What makes spans where tracing is on."""

    def span(self, name: str, kind: Kind, attributes: Attributes, traceparent: str = "") -> Span:
        """A span below the current one or, of kind server, below the one that `traceparent` names."""

    def record(self, name: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """A span that is over, below the current one."""

    def current_ids(self) -> tuple[str, str] | None:
        """Trace id and span id of the current span in hexadecimal, or None."""


class _Off:
    __slots__ = ()

    def set(self, **attributes: Value) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


OFF: Span = _Off()
_tracing: Tracing | None = None


def use_tracing(tracing: Tracing | None) -> None:
    """Turn tracing on, or off with None."""
    global _tracing  # noqa: PLW0603  # a process traces, or does not
    _tracing = tracing


def span(name: str, kind: Kind = "internal", /, **attributes: Value) -> Span:
    """A span below the current one, with attributes `geofix.<name>`."""
    return OFF if _tracing is None else _tracing.span(name, kind, attributes)


def server_span(name: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:
    """The span of a call of `package.Service/Method` that came with `metadata`."""
    if _tracing is None:
        return OFF
    parent = next((value for key, value in metadata if key == TRACEPARENT and isinstance(value, str)), "")
    return _tracing.span(name, "server", {}, parent)


def record(name: str, start_ns: int, end_ns: int, /, **attributes: Value) -> None:
    """A span below the current one for work that is over, by the clock of `time.time_ns`: another thread's, say."""
    if _tracing is not None:
        _tracing.record(name, start_ns, end_ns, attributes)


def current_ids() -> tuple[str, str] | None:
    """Trace id and span id of the current span in hexadecimal, or None."""
    return None if _tracing is None else _tracing.current_ids()


def tracing_is_on() -> bool:
    """Whether spans are made."""
    return _tracing is not None


def outgoing_metadata() -> tuple[tuple[str, str], ...] | None:
    """The current span as metadata of a gRPC call, by W3C Trace Context; None where there is none.

    It also finds the span of an application that uses OpenTelemetry itself and calls through the client.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return ((TRACEPARENT, f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"),)
