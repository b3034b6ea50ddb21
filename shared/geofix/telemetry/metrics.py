"""Every metric of geofix, declared once; docs/observability.md holds the same table."""

from __future__ import annotations

from geofix.telemetry.instruments import Instrument

GATEWAY, CLASSIFIER, EMBEDDER, RETRIEVAL = "gateway", "classifier", "embedder", "retrieval"
_ALL = (GATEWAY, CLASSIFIER, EMBEDDER, RETRIEVAL)
_MODELS = (CLASSIFIER, EMBEDDER)
_QUEUES = (CLASSIFIER, EMBEDDER, RETRIEVAL)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

CALLS = Instrument(
    "counter",
    "geofix_rpc_total",
    "Calls that ended, by status code and ErrorInfo reason",
    _ALL,
    ("method", "code", "reason"),
)
CALL_SECONDS = Instrument(
    "histogram", "geofix_rpc_duration_seconds", "Time from a call's arrival to its end", _ALL, ("method",), _SECONDS
)
CALLS_IN_FLIGHT = Instrument("gauge", "geofix_rpc_in_flight", "Calls that have begun and not ended", _ALL, ("method",))
STAGE_SECONDS = Instrument(
    "histogram", "geofix_stage_duration_seconds", "Time that a stage of a request took", _ALL, ("stage",), _SECONDS
)
READY = Instrument("gauge", "geofix_ready", "1 while health says SERVING, else 0", _ALL)
VERSIONS = Instrument(
    "gauge", "geofix_version_info", "1, with the versions that answer now", _ALL, ("model_version", "gallery_version")
)
CERTIFICATE_EXPIRY = Instrument(
    "gauge",
    "geofix_tls_certificate_expiry_timestamp_seconds",
    "When the certificate that the service serves with ends, seconds since 1970",
    _ALL,
)
RELOAD_FAILURES = Instrument(
    "counter",
    "geofix_reload_failures_total",
    "Changed files that could not be read, so that what was read before is kept, by the setting that names them",
    _ALL,
    ("setting",),
)
TASKS = Instrument("gauge", "geofix_asyncio_tasks", "Tasks of the event loop", _ALL)

QUEUE_DEPTH = Instrument("gauge", "geofix_queue_depth", "Items that wait", _QUEUES, ("queue",))
QUEUE_WAIT_SECONDS = Instrument(
    "histogram", "geofix_queue_wait_seconds", "Time that an item waited", _QUEUES, ("queue",), _SECONDS
)
QUEUE_DROPPED = Instrument(
    "counter",
    "geofix_queue_dropped_total",
    "Items that were not worked on: refused (the queue is full), expired (past their deadline) or cancelled",
    _QUEUES,
    ("queue", "cause"),
)
BATCH_SIZE = Instrument(
    "histogram",
    "geofix_batch_size",
    "Items of one pass of the device",
    _MODELS,
    ("queue",),
    (1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_FAILURES = Instrument("counter", "geofix_batch_failures_total", "Passes that failed", _MODELS, ("queue",))

CACHE_LOOKUPS = Instrument(
    "counter", "geofix_cache_lookups_total", "Look-ups in the cache: hit, miss or error", (GATEWAY,), ("result",)
)
BREAKER_OPEN = Instrument(
    "gauge",
    "geofix_breaker_open",
    "1 while a dependency is left alone after failures, else 0",
    (GATEWAY,),
    ("dependency",),
)
ANSWERS = Instrument(
    "counter",
    "geofix_answers_total",
    "Answers that were computed, by where the estimate came from and whether the image is localizable",
    (GATEWAY,),
    ("method", "localizable"),
)
CELL_WEIGHT = Instrument(
    "histogram",
    "geofix_answer_cell_weight_ratio",
    "Largest cell weight of a computed answer",
    (GATEWAY,),
    (),
    tuple(round(0.05 * step, 2) for step in range(1, 21)),
)
RADIUS_METERS = Instrument(
    "histogram",
    "geofix_answer_radius_90_meters",
    "Radius that holds the truth with 90 % probability, of computed answers that have one",
    (GATEWAY,),
    (),
    (1e3, 3e3, 1e4, 3e4, 1e5, 2e5, 3e5, 5e5, 7.5e5, 1e6, 2e6, 5e6),
)

INSTRUMENTS: tuple[Instrument, ...] = tuple(value for value in globals().values() if isinstance(value, Instrument))


def instruments_of(service: str) -> tuple[Instrument, ...]:
    """Those that a service has, by its role."""
    return tuple(instrument for instrument in INSTRUMENTS if service in instrument.services)
