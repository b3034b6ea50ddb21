"""Spans by OpenTelemetry, sent as the standard `OTEL_*` variables say. Imported only where tracing is on."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from opentelemetry import context as current
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from geofix.errors import ConfigurationError, GeofixError
from geofix.telemetry.spans import TRACEPARENT, Attributes, Kind, Span, Value

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_PROPAGATOR = TraceContextTextMapPropagator()


class OpenTelemetry:
    """Tracing of one process.

    Args:
        service: its name, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES give another.
        version: of geofix.
        processor: takes the spans that are over; None drops them.
    """

    def __init__(self, service: str, version: str, processor: SpanProcessor | None) -> None:
        resource = Resource.create({"service.version": version})
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            resource = resource.merge(Resource({"service.name": service}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if processor is not None:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("geofix", version)

    def span(self, name: str, kind: Kind, attributes: Attributes, traceparent: str = "") -> Span:
        """See `geofix.telemetry.spans.Tracing`."""
        above = None  # the current one
        if kind == "server":
            above = _PROPAGATOR.extract({TRACEPARENT: traceparent} if traceparent else {}, Context())
        named = _named(attributes)
        if kind == "server":
            service, _, method = name.partition("/")
            named |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        return _LiveSpan(self._tracer.start_span(name, above, _KINDS[kind], named))

    def record(self, name: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """See `geofix.telemetry.spans.Tracing`."""
        self._tracer.start_span(name, attributes=_named(attributes), start_time=start_ns).end(end_ns)

    def current_ids(self) -> tuple[str, str] | None:
        """See `geofix.telemetry.spans.Tracing`."""
        context = trace.get_current_span().get_span_context()
        return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class _LiveSpan:
    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def __enter__(self) -> Self:
        self._token = current.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:  # never its message: it may quote a client
            what = error.reason.value if isinstance(error, GeofixError) else type(error).__name__
            self._span.set_attribute("error.type", what)
            self._span.set_status(Status(StatusCode.ERROR))
        current.detach(self._token)
        self._span.end()


def _named(attributes: Attributes) -> dict[str, Value]:
    return {f"geofix.{name}": value for name, value in attributes.items()}


def processor_from_environment() -> SpanProcessor | None:
    """What sends spans where the OTEL_* variables say.

    Raises:
        ConfigurationError: they ask for what is not here.
    """
    kind = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    if kind == "none":
        return None
    if kind == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    if kind != "otlp":
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER is {kind!r}: geofix exports otlp, console or none")
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)
    if protocol != "grpc":
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: geofix exports over grpc; a collector takes it on port 4317"
        )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())
