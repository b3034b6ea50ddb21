"""Where `geofix evaluate` gets its answers: a running platform, or a bundle in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofix.client import Alternative, Client, LocateOptions, Location
from geofix.errors import Reason
from geofix.evaluation import LEVELS
from geofix.geo import xyz_to_latlon
from geofix.vectors import unpack_vector

if TYPE_CHECKING:
    from geofix.aggregate import Cluster
    from geofix.decision import Decision
    from geofix.local import LocalEngine

STRATEGIES = ("posterior", "classification", "retrieval", "swc")
"""The default first; the others stand beside it."""

Answers = dict[str, Location]
"""An image's answer by each strategy."""


def ask_server(
    client: Client, *, features: bool = False, strategies: Sequence[str] = STRATEGIES
) -> Callable[[bytes], Answers]:
    """Answers of a running platform about images, or about features as little-endian float32."""
    locate = client.locate_feature if features else client.locate

    def answer(data: bytes) -> Answers:
        return {
            strategy: locate(
                data,
                LocateOptions(
                    strategy=strategy, probabilities=LEVELS, max_alternatives=100, max_cells=0, max_neighbors=0
                ),
            )
            for strategy in strategies
        }

    return answer


def ask_bundle(
    engine: LocalEngine, *, features: bool = False, strategies: Sequence[str] = STRATEGIES
) -> Callable[[bytes], Answers]:
    """Answers of a bundle in this process about images, from one pass of the backbone, or about features.

    Raises:
        GeofixError: the bundle's calibration is not whole.
    """
    from geofix.decision import Strategy

    calibration = engine.bundle.calibration

    def answer(data: bytes) -> Answers:
        heads = engine.heads(_feature(engine, data, features)[None])[0]
        answers = {}
        for strategy in strategies:
            decision = engine.decide(heads, Strategy(strategy))
            lat, lon = xyz_to_latlon(decision.xyz)
            localizable = calibration.localizable(decision.signals)
            radii = {}
            if localizable and strategy == Strategy.POSTERIOR:  # the only one that radii are fitted for
                found = {p: calibration.radius_km(decision.signals, p) for p in LEVELS}
                radii = {p: 1000 * km for p, km in found.items() if km is not None}
            answers[strategy] = Location(
                float(lat),
                float(lon),
                localizable,
                decision.method.value,
                strategy,
                radii,
                alternatives=tuple(_alternative(cluster, decision) for cluster in decision.clusters),
            )
        return answers

    return answer


def _feature(engine: LocalEngine, data: bytes, given: bool) -> NDArray[np.float32]:
    return (
        unpack_vector(data, engine.bundle.manifest.feature_dim, Reason.FEATURE_INVALID)
        if given
        else engine.feature(data)
    )


def _alternative(cluster: Cluster, decision: Decision) -> Alternative:
    lat, lon = xyz_to_latlon(cluster.xyz)
    weight = float(decision.weights[list(cluster.members)].sum())
    return Alternative(float(lat), float(lon), weight, len(cluster.members))
