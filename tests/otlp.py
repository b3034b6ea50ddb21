"""A collector of OpenTelemetry traces for tests: OTLP over gRPC, kept in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Received:
    """A span, and the service that sent it."""

    service: str
    span: trace_pb2.Span

    @property
    def attributes(self) -> dict[str, object]:
        """By name."""
        return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in self.span.attributes}


@dataclass
class Collector(rpc.TraceServiceServicer):
    """What came in."""

    endpoint: str = ""
    raw: list[bytes] = field(default_factory=list)
    _spans: list[Received] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        """Take spans."""
        with self._lock:
            self.raw.append(request.SerializeToString())
            for of_resource in request.resource_spans:
                named = {each.key: each.value.string_value for each in of_resource.resource.attributes}
                for of_scope in of_resource.scope_spans:
                    self._spans += [Received(named["service.name"], span) for span in of_scope.spans]
        return pb.ExportTraceServiceResponse()

    def trace(self, trace_id: str) -> list[Received]:
        """The spans of a trace, by its id in hexadecimal."""
        with self._lock:
            return [each for each in self._spans if each.span.trace_id.hex() == trace_id]


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens on the loopback interface."""
    server = grpc.server(ThreadPoolExecutor(2))
    made = Collector()
    rpc.add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
    made.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield made
    finally:
        server.stop(0).wait()
