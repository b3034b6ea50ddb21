"""What metrics and traces say of calls that end in every way, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from geofix.errors import GeofixError, InvalidInput, MismatchError, Reason
from geofix.server import Service
from geofix.settings import ServiceSettings
from geofix.telemetry.metrics import INSTRUMENTS
from geofix.telemetry.opentelemetry import OpenTelemetry
from geofix.telemetry.spans import outgoing_metadata, use_tracing
from geofix.telemetry.stages import stage
from geofix.v1 import embedder_service_pb2 as pb
from geofix.v1 import embedder_service_pb2_grpc as rpc
from running import LISTEN, refusal, running

METHOD = "/geofix.v1.EmbedderService/GetModelInfo"
SECRET = "\x89PNG what a client sent"


class Answering(Service, rpc.EmbedderServiceServicer):
    """An embedder that answers GetModelInfo as the test says."""

    full_name = "geofix.v1.EmbedderService"
    role = "embedder"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hang = False
        self.entered = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> None:
        rpc.add_EmbedderServiceServicer_to_server(self, server)

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    def versions(self) -> tuple[str, str]:
        return "tiny@1", ""

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.EmbedResponse:
        raise NotImplementedError

    async def GetModelInfo(
        self, request: pb.EmbedderServiceGetModelInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EmbedderServiceGetModelInfoResponse:
        self.entered.set()
        with stage("work") as work:
            work.set(batch_size=3)
            if self.hang:
                await asyncio.sleep(60)
            if self.error is not None:
                raise self.error
        return pb.EmbedderServiceGetModelInfoResponse(feature_dim=7)


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    made = CollectorRegistry()
    for instrument in INSTRUMENTS:
        instrument.enable(made)
    yield made
    for instrument in INSTRUMENTS:
        instrument.disable()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing = OpenTelemetry("geofix-test", "0", SimpleSpanProcessor(exporter))
    use_tracing(tracing)
    yield exporter
    use_tracing(None)
    tracing.close()


@contextlib.asynccontextmanager
async def answering(**settings: Any) -> AsyncIterator[tuple[Answering, rpc.EmbedderServiceAsyncStub]]:
    service = Answering()
    async with running(service, ServiceSettings(listen=LISTEN, bundle=Path(), **settings)) as channel:
        yield service, rpc.EmbedderServiceStub(channel)


def calls(registry: CollectorRegistry, code: str, reason: str = "") -> float | None:
    return registry.get_sample_value("geofix_rpc_total", {"method": METHOD, "code": code, "reason": reason})


async def until_ended(registry: CollectorRegistry) -> None:
    async with asyncio.timeout(20):
        while registry.get_sample_value("geofix_rpc_in_flight", {"method": METHOD}) != 0:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("error", "code", "reason", "failed"),
    [
        (InvalidInput(SECRET, Reason.IMAGE_EMPTY), "INVALID_ARGUMENT", "IMAGE_EMPTY", False),
        (MismatchError(SECRET), "FAILED_PRECONDITION", "BUNDLE_INVALID", True),
        (ValueError(SECRET), "INTERNAL", "INTERNAL", True),
    ],
)
async def test_an_abort_reaches_the_client_and_both_signals(
    registry: CollectorRegistry, spans: InMemorySpanExporter, error: Exception, code: str, reason: str, failed: bool
) -> None:
    async with answering() as (service, stub):
        service.error = error
        refused = await refusal(stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest()))
        await until_ended(registry)
    assert (refused.code.name, refused.reason) == (code, reason)
    if isinstance(error, GeofixError):
        assert refused.message == SECRET  # the client's own words, to the client
    assert calls(registry, code, reason) == 1
    work, server = spans.get_finished_spans()
    assert (server.name, server.kind) == ("geofix.v1.EmbedderService/GetModelInfo", SpanKind.SERVER)
    assert server.attributes is not None
    assert (server.attributes["geofix.code"], server.attributes["geofix.reason"]) == (code, reason)
    assert (server.status.status_code is StatusCode.ERROR) == failed
    assert work.status.status_code is StatusCode.ERROR
    assert SECRET not in work.to_json() + server.to_json()


async def test_a_call_below_another_span(registry: CollectorRegistry, spans: InMemorySpanExporter) -> None:
    async with answering() as (_, stub):
        with stage("above", "client"):
            answer = await stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest(), metadata=outgoing_metadata())
        await until_ended(registry)
    assert answer.feature_dim == 7
    work, server, above = spans.get_finished_spans()
    assert (work.name, above.name) == ("work", "above")
    assert work.parent is not None
    assert server.parent is not None
    assert above.parent is None
    assert work.parent.span_id == server.context.span_id
    assert server.parent.span_id == above.context.span_id
    assert len({each.context.trace_id for each in (work, server, above)}) == 1
    assert dict(work.attributes or {}) == {"geofix.batch_size": 3}
    assert calls(registry, "OK") == 1
    assert registry.get_sample_value("geofix_rpc_duration_seconds_count", {"method": METHOD}) == 1
    assert registry.get_sample_value("geofix_stage_duration_seconds_count", {"stage": "work"}) == 1
    assert registry.get_sample_value("geofix_ready") == 1
    assert registry.get_sample_value("geofix_version_info", {"model_version": "tiny@1", "gallery_version": ""}) == 1


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é", "00-" * 5000])
async def test_a_traceparent_that_says_nothing_begins_a_trace(spans: InMemorySpanExporter, traceparent: str) -> None:
    header = traceparent.encode("ascii", "ignore").decode()[:4000]
    async with answering() as (_, stub):
        metadata = (("traceparent", header), ("tracestate", "a=secret"), ("baggage", "secret=1"))
        await stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest(), metadata=metadata)
    server = next(span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER)
    assert server.parent is None
    assert "secret" not in server.to_json()


async def test_a_call_that_its_client_gives_up(registry: CollectorRegistry, spans: InMemorySpanExporter) -> None:
    async with answering() as (service, stub):
        service.hang = True
        call = stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest())
        await service.entered.wait()
        call.cancel()
        await until_ended(registry)
        service.hang = False
        assert (await stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest())).feature_dim == 7
    assert calls(registry, "CANCELLED") == 1
    assert calls(registry, "OK") == 1
    cancelled = [span for span in spans.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert {span.name for span in cancelled} == {"work", "geofix.v1.EmbedderService/GetModelInfo"}


async def test_a_call_past_its_deadline(registry: CollectorRegistry, spans: InMemorySpanExporter) -> None:
    async with answering(default_deadline_s=0.1) as (service, stub):
        service.hang = True
        refused = await refusal(stub.GetModelInfo(pb.EmbedderServiceGetModelInfoRequest()))
        await until_ended(registry)
    assert refused.reason is Reason.DEADLINE_EXCEEDED
    assert calls(registry, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED") == 1
    assert len(spans.get_finished_spans()) == 2


async def test_bytes_that_are_no_message_are_the_clients_mistake(registry: CollectorRegistry) -> None:
    settings = ServiceSettings(listen=LISTEN, bundle=Path())
    async with running(Answering(), settings) as channel:
        call: Any = channel.unary_unary("/geofix.v1.EmbedderService/Embed")
        refused = await refusal(call(b"\xff\xff\xff"))
    assert (refused.code.name, refused.reason) == ("INVALID_ARGUMENT", Reason.REQUEST_UNREADABLE)
    assert "geofix's protos" in refused.message
