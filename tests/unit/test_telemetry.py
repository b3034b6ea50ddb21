"""Telemetry: what it costs when it is off, what its documents and log lines say."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from geofix.telemetry import spans
from geofix.telemetry.instruments import Instrument
from geofix.telemetry.logs import JsonFormatter, TextFormatter, configure_logs
from geofix.telemetry.metrics import INSTRUMENTS, instruments_of

ROOT = Path(__file__).parents[2]
NASTY = "a\n2026-01-01 00:00:00 ERROR geofix forged\r\x1b[31m\u2028b\x85c"


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    information = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("geofix.x", logging.WARNING, "", 0, message, arguments, information)


def test_what_is_off_does_nothing_and_is_one_object() -> None:
    assert spans.span("a") is spans.span("b", "client", x=1) is spans.server_span("c", [("traceparent", "x")])
    with spans.span("a") as span:
        span.set(x=1)
    assert spans.current_ids() is None
    metric = Instrument("counter", "x_total", "", ("gateway",), ("a",))
    metric.add(1, "b")
    assert not metric.enabled


def test_an_instrument_counts_once_it_is_enabled() -> None:
    from prometheus_client import generate_latest

    registry = CollectorRegistry()
    counter = Instrument("counter", "x_total", "help", (), ("a",))
    info = Instrument("gauge", "y_info", "help", (), ("version",))
    for each in (counter, info):
        each.enable(registry)
    counter.add(2, "b")
    info.replace("1")
    info.replace("2")
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(registry).decode())}
    assert [(s.labels, s.value) for s in families["x"].samples if s.name == "x_total"] == [({"a": "b"}, 2)]
    assert [s.labels for s in families["y_info"].samples] == [{"version": "2"}]
    counter.disable()
    counter.add(1, "b")
    assert registry.get_sample_value("x_total", {"a": "b"}) == 2


def test_the_table_of_metrics_is_what_the_code_declares() -> None:
    text = (ROOT / "docs/observability.md").read_text()
    rows = re.findall(r"^\| `(geofix_\w+)` \| (\w+) \| ([^|]*) \| [^|]* \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    documented = {
        name: (kind, labels.strip(), meaning.strip(), "all" if services.strip() == "all" else services.strip())
        for name, kind, labels, services, meaning in rows
    }
    declared = {
        each.name: (
            each.kind,
            ", ".join(each.labels),
            each.meaning,
            "all" if len(each.services) == 4 else ", ".join(each.services),
        )
        for each in INSTRUMENTS
    }
    assert documented == declared
    assert len({each.name for each in INSTRUMENTS}) == len(INSTRUMENTS)
    assert len(instruments_of("gateway")) + len(instruments_of("retrieval")) > len(INSTRUMENTS)


def test_a_record_is_one_json_line_whatever_is_in_it() -> None:
    line = JsonFormatter("gateway").format(record("not ready: %s", NASTY))
    assert line.isprintable()
    assert line.isascii()
    entry = json.loads(line)
    assert entry["message"] == f"not ready: {NASTY}"
    assert (entry["level"], entry["service"], entry["logger"]) == ("WARNING", "gateway", "geofix.x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])


def test_text_has_one_line_a_record_and_marks_tracebacks() -> None:
    try:
        raise ValueError(NASTY)
    except ValueError as caught:
        lines = TextFormatter().format(record("failed: %s", NASTY, error=caught)).split("\n")
    assert "failed: a\\n2026" in lines[0]
    assert all(line.startswith("  | ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("log_format", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("text", False, False), ("json", True, True)],
)
def test_the_format_follows_the_setting_and_the_terminal(
    monkeypatch: pytest.MonkeyPatch, log_format: str, terminal: bool, is_json: bool
) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        root.handlers = []
        configure_logs("gateway", log_format, "INFO")  # type: ignore[arg-type]
        logging.getLogger("geofix.x").info("hello")
    finally:
        root.handlers = before
        root.setLevel(level)
    assert stream.getvalue().startswith("{") == is_json
    assert "hello" in stream.getvalue()
