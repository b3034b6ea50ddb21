"""Which service sends which signal: spans with their parents, metrics, log lines; from real processes."""

from __future__ import annotations

import io
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from PIL import Image, PngImagePlugin
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bundle_factory import image_of, make_bundle
from geofix.platform.ports import free_ports
from geofix.telemetry.metrics import instruments_of
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1.types_pb2 import ImageSource
from otlp import Collector, Received, collector
from platforms import Up

pytestmark = pytest.mark.e2e

SERVICES = ("classifier", "embedder", "retrieval", "gateway")
MARKER = "what-only-the-client-knows"
COMPUTED, CACHED, REFUSED, BATCH = (f"{n:032x}" for n in (0xA1, 0xA2, 0xA3, 0xA4))
"""Trace ids of the calls that the test makes."""
CALLER = "00000000000000b7"

GATEWAY, CLASSIFIER = "geofix.v1.GeolocationService/Locate", "geofix.v1.ClassifierService/Classify"
EMBEDDER, RETRIEVAL = "geofix.v1.EmbedderService/Embed", "geofix.v1.RetrievalService/Search"
TREE = {
    ("geofix-gateway", GATEWAY, "the caller"),
    ("geofix-gateway", "cache", GATEWAY),
    ("geofix-gateway", "classify", GATEWAY),
    ("geofix-classifier", CLASSIFIER, "classify"),
    ("geofix-classifier", "queue", CLASSIFIER),
    ("geofix-classifier", "decode", CLASSIFIER),
    ("geofix-classifier", "inference", CLASSIFIER),
    ("geofix-gateway", "embed", GATEWAY),
    ("geofix-embedder", EMBEDDER, "embed"),
    ("geofix-embedder", "queue", EMBEDDER),
    ("geofix-embedder", "inference", EMBEDDER),
    ("geofix-gateway", "search", GATEWAY),
    ("geofix-retrieval", RETRIEVAL, "search"),
    ("geofix-retrieval", "queue", RETRIEVAL),
    ("geofix-retrieval", "search", RETRIEVAL),
    ("geofix-gateway", "aggregate", GATEWAY),
}
"""Service, span, and the span above it."""


@dataclass
class Signals:
    """What a platform sent: its spans, the metrics and the log of each service, and its versions."""

    collector: Collector
    metrics: dict[str, dict[str, Metric]]
    text: dict[str, str]
    logs: dict[str, str]
    answer: pb.LocateResponse

    def value(self, service: str, sample: str, **labels: str) -> float:
        """The value of a sample; 0 where there is none."""
        return sum(
            each.value
            for family in self.metrics[service].values()
            for each in family.samples
            if each.name == sample and labels.items() <= each.labels.items()
        )


def marked_image() -> bytes:
    """An image that is full of text of its sender's, in a chunk of its own and in the pixels."""
    information = PngImagePlugin.PngInfo()
    information.add_text("Comment", MARKER)
    with Image.open(io.BytesIO(image_of(48.1, 11.6))) as image:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=information)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signals]:
    directory = tmp_path_factory.mktemp("signals")
    bundle = make_bundle(directory / "bundle")
    with collector() as sink:
        settings = {
            "GEOFIX_METRICS": "on",
            "GEOFIX_OTEL": "on",
            "GEOFIX_LOG_FORMAT": "json",
            "GEOFIX_ALSO_EMBED": "false",  # every service has a part
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        up = Up(bundle.directory, directory / "data", free_ports(1)[0], **settings)
        try:
            up.until_ready()
            answer = use(f"127.0.0.1:{up.port}")
            wait_for(lambda: len(sink.trace(COMPUTED)) >= len(TREE) and bool(sink.trace(BATCH)))
            urls = dict(re.findall(r"^(\w+) .*(http://127\.0\.0\.1:\d+/metrics)", up.output, re.MULTILINE))
            assert set(urls) == set(SERVICES)
            text = {name: urllib.request.urlopen(url, timeout=10).read().decode() for name, url in urls.items()}
            assert up.interrupt() == 0
        finally:
            up.end()
        metrics = {
            name: {family.name: family for family in text_string_to_metric_families(page)}
            for name, page in text.items()
        }
        logs = {name: (directory / "data" / "logs" / f"{name}.log").read_text() for name in SERVICES}
        yield Signals(sink, metrics, text, logs, answer)


def use(address: str) -> pb.LocateResponse:
    """An answer that is computed, the same from the cache, a refusal, and a batch with one bad image."""
    with grpc.insecure_channel(address) as channel:
        stub = rpc.GeolocationServiceStub(channel)

        def metadata(trace_id: str) -> tuple[tuple[str, str], ...]:
            return ("traceparent", f"00-{trace_id}-{CALLER}-01"), ("tracestate", f"a={MARKER}"), ("baggage", MARKER)

        def request(image: bytes) -> pb.LocateRequest:
            return pb.LocateRequest(source=ImageSource(image=image))

        answer: pb.LocateResponse = stub.Locate(request(marked_image()), timeout=30, metadata=metadata(COMPUTED))
        assert not answer.cached
        assert stub.Locate(request(marked_image()), timeout=30, metadata=metadata(CACHED)).cached
        with pytest.raises(grpc.RpcError):
            stub.Locate(request(MARKER.encode()), timeout=30, metadata=metadata(REFUSED))
        batch = pb.BatchLocateRequest(sources=[ImageSource(image=i) for i in (image_of(1, 2), b"no image")])
        results = stub.BatchLocate(batch, timeout=30, metadata=metadata(BATCH)).results
        assert [each.WhichOneof("result") for each in results] == ["response", "error"]
    return answer


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)


def tree(spans: list[Received]) -> set[tuple[str, str, str]]:
    names = {each.span.span_id.hex(): each.span.name for each in spans} | {CALLER: "the caller"}
    return {(each.service, each.span.name, names[each.span.parent_span_id.hex()]) for each in spans}


def test_the_spans_of_a_computed_answer_and_their_parents(signals: Signals) -> None:
    spans = signals.collector.trace(COMPUTED)
    assert tree(spans) == TREE
    assert len(spans) == len(TREE)
    for each in spans:
        assert 0 < each.span.start_time_unix_nano <= each.span.end_time_unix_nano
    of = {(each.service, each.span.name): each.attributes for each in spans}
    assert of["geofix-gateway", GATEWAY] == {
        "rpc.system": "grpc",
        "rpc.service": "geofix.v1.GeolocationService",
        "rpc.method": "Locate",
        "geofix.code": "OK",
        "geofix.reason": "",
    }
    assert of["geofix-gateway", "cache"] == {"geofix.result": "miss"}
    assert of["geofix-gateway", "classify"] == {
        "geofix.model_version": signals.answer.model_version,
        "geofix.cell": signals.answer.cells[0].cell_id,
    }
    assert of["geofix-classifier", "inference"] == {"geofix.batch_size": 1}
    assert of["geofix-gateway", "search"]["geofix.gallery_version"] == signals.answer.gallery_version
    assert of["geofix-retrieval", "search"] == {
        "geofix.queries": 1,
        "geofix.gallery_version": signals.answer.gallery_version,
    }
    assert of["geofix-gateway", "aggregate"] == {"geofix.neighbors": signals.answer.neighbors_used}


def test_the_spans_of_a_cached_answer_a_refusal_and_a_batch(signals: Signals) -> None:
    assert tree(signals.collector.trace(CACHED)) == {each for each in TREE if each[1] in (GATEWAY, "cache")}
    refused = signals.collector.trace(REFUSED)
    assert {each.service for each in refused} == {"geofix-gateway", "geofix-classifier"}
    reasons = {each.span.name: each.attributes.get("geofix.reason") for each in refused}
    assert reasons[GATEWAY] == reasons[CLASSIFIER] == "IMAGE_UNREADABLE"
    batch = [each.span.name for each in signals.collector.trace(BATCH)]
    assert (batch.count("cache"), batch.count("classify"), batch.count("search")) == (2, 2, 2)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_its_metrics_and_no_others(signals: Signals, service: str) -> None:
    expected = {each.name.removesuffix("_total") for each in instruments_of(service)}
    found = set(signals.metrics[service])
    assert {name for name in found if name.startswith("geofix_")} == expected
    assert {"process_resident_memory_bytes", "process_open_fds", "python_gc_objects_collected"} <= found
    assert signals.value(service, "geofix_ready") == 1
    gallery = "" if service in ("classifier", "embedder") else signals.answer.gallery_version
    versions = {"model_version": signals.answer.model_version, "gallery_version": gallery}
    assert signals.value(service, "geofix_version_info", **versions) == 1
    assert signals.value(service, "geofix_asyncio_tasks") >= 1


def test_metrics_count_what_was_done(signals: Signals) -> None:
    locate = {"method": f"/{GATEWAY}"}
    assert signals.value("gateway", "geofix_rpc_total", code="OK", **locate) == 2
    refused = {"code": "INVALID_ARGUMENT", "reason": "IMAGE_UNREADABLE"}
    assert signals.value("gateway", "geofix_rpc_total", **refused, **locate) == 1
    assert signals.value("classifier", "geofix_rpc_total", method=f"/{CLASSIFIER}", **refused) == 2
    assert signals.value("gateway", "geofix_rpc_duration_seconds_count", **locate) == 3
    assert signals.value("gateway", "geofix_rpc_in_flight", **locate) == 0
    assert signals.value("gateway", "geofix_cache_lookups_total", result="hit") == 1
    assert signals.value("gateway", "geofix_cache_lookups_total", result="miss") == 4
    assert signals.value("gateway", "geofix_answers_total", method="cell_search", localizable="true") == 2
    assert signals.value("gateway", "geofix_answer_cell_weight_ratio_count") == 2
    assert signals.value("gateway", "geofix_answer_radius_90_meters_count") == 2
    for service, queue in (("classifier", "classifier"), ("embedder", "embedder"), ("retrieval", "search")):
        assert signals.value(service, "geofix_queue_wait_seconds_count", queue=queue) >= 2
        assert signals.value(service, "geofix_queue_depth", queue=queue) == 0
    assert signals.value("classifier", "geofix_batch_size_sum") == 2
    assert signals.value("classifier", "geofix_stage_duration_seconds_count", stage="decode") == 2


def test_logs_are_json_lines_with_trace_ids(signals: Signals) -> None:
    for service, log in signals.logs.items():
        entries = [json.loads(line) for line in log.splitlines()]
        assert {entry["service"] for entry in entries} == {service}
        assert any("is ready" in entry["message"] for entry in entries)


def test_no_signal_holds_what_the_client_sent(signals: Signals) -> None:
    pixels = marked_image()[-40:]
    everything = b"".join(signals.collector.raw) + "".join([*signals.text.values(), *signals.logs.values()]).encode()
    assert MARKER.encode() not in everything
    assert pixels not in everything
    assert repr(pixels)[2:-1].encode() not in everything
