"""The telemetry of a process: begun once, from its settings, and ended with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from geofix.errors import ConfigurationError
from geofix.settings import ServiceSettings
from geofix.telemetry.logs import configure_logs
from geofix.telemetry.metrics import instruments_of
from geofix.telemetry.spans import use_tracing


@contextlib.contextmanager
def started(service: str, settings: ServiceSettings) -> Iterator[None]:
    """Logs, and what the settings turn on of metrics and traces, for a service by its role, such as gateway.

    Raises:
        ConfigurationError: an extra is not installed, or the metrics' address cannot be listened on.
    """
    configure_logs(service, settings.log_format, settings.log_level)
    with contextlib.ExitStack() as stack:
        if settings.metrics_listen:
            stack.enter_context(_metrics(service, settings.metrics_listen))
        if settings.otel and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true":
            stack.enter_context(_traces(service))
        yield


@contextlib.contextmanager
def _traces(service: str) -> Iterator[None]:
    from geofix import __version__

    try:
        from geofix.telemetry.opentelemetry import OpenTelemetry, processor_from_environment
    except ImportError as error:
        raise ConfigurationError(f"GEOFIX_OTEL needs OpenTelemetry ({error}): pip install 'geofix[otel]'") from error
    tracing = OpenTelemetry(f"geofix-{service}", __version__, processor_from_environment())
    use_tracing(tracing)
    try:
        yield
    finally:
        use_tracing(None)
        tracing.close()


@contextlib.contextmanager
def _metrics(service: str, listen: str) -> Iterator[None]:
    try:
        from prometheus_client import (
            CollectorRegistry,
            GCCollector,
            PlatformCollector,
            ProcessCollector,
            disable_created_metrics,
            start_http_server,
        )
    except ImportError as error:
        raise ConfigurationError(
            f"GEOFIX_METRICS_LISTEN needs prometheus-client ({error}): pip install 'geofix[metrics]'"
        ) from error
    # Otherwise each counter has a second series, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise ConfigurationError(
            f"GEOFIX_METRICS_LISTEN: cannot listen on {listen} ({error.strerror}); is another process using the port?"
        ) from error
    instruments = instruments_of(service)
    for instrument in instruments:
        instrument.enable(registry)
    try:
        yield
    finally:
        for instrument in instruments:
            instrument.disable()
        server.shutdown()
        server.server_close()
        thread.join()
