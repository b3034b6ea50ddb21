"""From the contract's responses to what the client hands out."""

from __future__ import annotations

from geofix.client.location import Alternative, Cell, DensityCell, Location, Neighbor, ServiceInfo, Timing
from geofix.client.requests import batch_error
from geofix.errors import GeofixError
from geofix.v1 import error_reason_pb2
from geofix.v1 import geolocation_service_pb2 as pb

# A value that a newer server has and this client does not know is handed out as its number.
_METHODS = {value: name.removeprefix("METHOD_").lower() for name, value in pb.Method.items()}
_REASONS = {value: name.removeprefix("ERROR_REASON_") for name, value in error_reason_pb2.ErrorReason.items() if value}
_REASONS[error_reason_pb2.ERROR_REASON_UNSPECIFIED] = ""
_STRATEGIES = {value: name.removeprefix("STRATEGY_").lower() for name, value in pb.Strategy.items()}


def read_location(response: pb.LocateResponse) -> Location:
    """The answer in a response."""
    timing = response.timing
    return Location(
        lat=response.location.latitude,
        lon=response.location.longitude,
        localizable=response.localizable,
        method=_METHODS.get(response.method, str(response.method)),
        strategy=_STRATEGIES.get(response.strategy, str(response.strategy)),
        radii={radius.probability: radius.radius_m for radius in response.radii},
        calibrated=response.calibration_status == pb.CALIBRATION_STATUS_CALIBRATED,
        alternatives=tuple(
            Alternative(a.location.latitude, a.location.longitude, a.weight, a.neighbors) for a in response.alternatives
        ),
        cells=tuple(
            Cell(c.cell_id, c.log_weight, c.mean.latitude, c.mean.longitude, c.kappa, tuple(c.s2_tokens))
            for c in response.cells
        ),
        neighbors=tuple(_neighbor(n) for n in response.neighbors),
        neighbors_used=response.neighbors_used,
        density=tuple(DensityCell(c.s2_token, c.probability) for c in response.density),
        model_version=response.model_version,
        gallery_version=response.gallery_version,
        cached=response.cached,
        timing=Timing(
            timing.total_ms,
            timing.cache_ms,
            timing.classify_ms,
            timing.embed_ms,
            timing.search_ms,
            timing.aggregate_ms,
            timing.preprocess_ms,
            timing.inference_ms,
            timing.database_ms,
            timing.queue_ms,
        ),
        degraded=response.degraded,
        degraded_reason=_REASONS.get(response.degraded_reason, str(response.degraded_reason)),
        degraded_message=response.degraded_message,
    )


def read_batch(response: pb.BatchLocateResponse) -> list[Location | GeofixError]:
    """The answers in a response, and in its place the error of an image that has none."""
    return [read_location(r.response) if r.HasField("response") else batch_error(r) for r in response.results]


def read_info(response: pb.GetServiceInfoResponse) -> ServiceInfo:
    """What a deployment says of itself."""
    return ServiceInfo(
        model_version=response.model_version,
        gallery_version=response.gallery_version,
        feature_dim=response.feature_dim,
        calibrated=response.calibration_status == pb.CALIBRATION_STATUS_CALIBRATED,
        max_image_bytes=response.limits.max_image_bytes,
        max_image_pixels=response.limits.max_image_pixels,
        max_batch=response.limits.max_batch,
        max_message_bytes=response.limits.max_message_bytes,
    )


def _neighbor(weighted: pb.WeightedNeighbor) -> Neighbor:
    found = weighted.neighbor
    return Neighbor(
        found.id,
        found.location.latitude,
        found.location.longitude,
        found.cell_id,
        found.similarity,
        weighted.weight,
        weighted.alternative,
        found.picture,
        found.attribution,
    )
