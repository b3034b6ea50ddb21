"""Between the contract and the domain: options in, answers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.type.latlng_pb2 import LatLng

from geofix.bundle import Bundle
from geofix.decision import Decision, Method, Strategy
from geofix.errors import GeofixError, InvalidInput, Reason
from geofix.geo import FloatArray, xyz_to_latlon
from geofix.search_area import area_from_message
from geofix.v1 import error_reason_pb2, types_pb2
from geofix.v1 import geolocation_service_pb2 as pb
from geofix_gateway.locate import Answer, Options, Source

_STRATEGIES = {
    pb.STRATEGY_UNSPECIFIED: Strategy.POSTERIOR,
    pb.STRATEGY_POSTERIOR: Strategy.POSTERIOR,
    pb.STRATEGY_SWC: Strategy.SWC,
    pb.STRATEGY_CLASSIFICATION: Strategy.CLASSIFICATION,
    pb.STRATEGY_RETRIEVAL: Strategy.RETRIEVAL,
}
_STRATEGY_VALUES = {strategy: value for value, strategy in _STRATEGIES.items()}
_METHOD_VALUES = {
    Method.CELL_SEARCH: pb.METHOD_CELL_SEARCH,
    Method.GALLERY_SEARCH: pb.METHOD_GALLERY_SEARCH,
    Method.CELL_MEAN: pb.METHOD_CELL_MEAN,
}


def read_source(source: types_pb2.ImageSource) -> Source:
    """The image or the feature of a request.

    Raises:
        InvalidInput: neither is there.
    """
    match source.WhichOneof("source"):
        case "image":
            return Source(image=source.image)
        case "feature":
            return Source(feature=source.feature)
        case _:
            raise InvalidInput("neither an image nor a feature was sent", Reason.IMAGE_MISSING)


def read_options(options: pb.LocateOptions) -> Options:
    """The options of a request, with the contract's defaults.

    Raises:
        InvalidInput: one is out of its range.
    """
    if options.strategy not in _STRATEGIES:
        raise InvalidInput(f"there is no strategy {options.strategy}", metadata={"option": "strategy"})
    default = Options()
    return Options(
        strategy=_STRATEGIES[options.strategy],
        probabilities=tuple(options.radius_probabilities) or default.probabilities,
        max_neighbors=options.max_neighbors if options.HasField("max_neighbors") else default.max_neighbors,
        max_cells=options.max_cells if options.HasField("max_cells") else default.max_cells,
        max_alternatives=options.max_alternatives if options.HasField("max_alternatives") else default.max_alternatives,
        max_density_cells=options.max_density_cells,
        bypass_cache=options.bypass_cache,
        allow_degraded=options.allow_degraded,
        area=area_from_message(options.search_area, "search_area") if options.HasField("search_area") else None,
    )


def write_answer(answer: Answer, options: Options, bundle: Bundle) -> pb.LocateResponse:
    """The response for an answer; its timing lacks the cache's and the total."""
    decision = answer.decision
    calibrated, uncalibrated = pb.CALIBRATION_STATUS_CALIBRATED, pb.CALIBRATION_STATUS_UNCALIBRATED
    return pb.LocateResponse(
        location=_latlngs([decision.xyz])[0],
        localizable=answer.localizable,
        method=_METHOD_VALUES[decision.method],
        strategy=_STRATEGY_VALUES[options.strategy],
        radii=[pb.Radius(probability=p, radius_m=radius_km * 1000) for p, radius_km in answer.radii_km],
        calibration_status=calibrated if answer.calibrated else uncalibrated,
        alternatives=_alternatives(decision, options.max_alternatives),
        cells=_cells(answer, options.max_cells, bundle),
        neighbors=_neighbors(answer, options.max_neighbors),
        neighbors_used=len(answer.found.neighbors),
        density=[pb.DensityCell(s2_token=c.s2_token, probability=c.probability) for c in answer.density],
        model_version=bundle.version,
        gallery_version=answer.gallery_version,
        timing=pb.Timing(**{f"{stage}_ms": milliseconds for stage, milliseconds in answer.timing_ms.items()}),
        degraded=answer.degraded is not None,
        degraded_reason=_reason_value(answer.degraded),
        degraded_message=answer.degraded.message if answer.degraded is not None else "",
    )


def _alternatives(decision: Decision, count: int) -> list[pb.Alternative]:
    clusters = decision.clusters[:count]
    return [
        pb.Alternative(
            location=location,
            weight=float(decision.weights[list(cluster.members)].sum()),
            neighbors=len(cluster.members),
        )
        for cluster, location in zip(clusters, _latlngs([cluster.xyz for cluster in clusters]), strict=True)
    ]


def _reason_value(error: GeofixError | None) -> error_reason_pb2.ErrorReason.ValueType:
    if error is None:
        return error_reason_pb2.ERROR_REASON_UNSPECIFIED
    return error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}")


def _cells(answer: Answer, count: int, bundle: Bundle) -> list[types_pb2.CellWeight]:
    scores, cells = answer.scores, bundle.cells
    return [
        types_pb2.CellWeight(
            cell_id=int(cell),
            log_weight=float(log_weight),
            mean=mean,
            kappa=float(cells.kappa[cell]),
            s2_tokens=cells.s2_tokens[cell],
        )
        for cell, log_weight, mean in zip(
            scores.cell_id[:count], scores.log_weight[:count], _latlngs(scores.xyz[:count]), strict=True
        )
    ]


def _neighbors(answer: Answer, count: int) -> list[pb.WeightedNeighbor]:
    found, decision = answer.found, answer.decision
    cluster_of = {rank: index for index, cluster in enumerate(decision.clusters) for rank in cluster.members}
    return [
        pb.WeightedNeighbor(
            neighbor=types_pb2.Neighbor(
                id=found.ids[rank],
                location=location,
                cell_id=int(found.neighbors.cell_id[rank]),
                similarity=float(found.neighbors.similarity[rank]),
                picture=found.pictures[rank],
                attribution=found.attributions[rank],
                fields=found.fields[rank] if found.fields else {},
            ),
            weight=float(decision.weights[rank]),
            alternative=cluster_of.get(rank, -1),
        )
        for rank, location in enumerate(_latlngs(found.neighbors.xyz[:count]))
    ]


def _latlngs(xyz: Sequence[FloatArray] | FloatArray) -> list[LatLng]:
    """Of n unit vectors, shape (n, 3)."""
    lat, lon = xyz_to_latlon(np.reshape(xyz, (-1, 3)))
    return [LatLng(latitude=la, longitude=lo) for la, lo in zip(lat.tolist(), lon.tolist(), strict=True)]
