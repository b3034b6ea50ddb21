"""Where `geofix evaluate` gets its answers: a running platform, or a bundle in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from geofix.client import Alternative, Client, LocateOptions, Location
from geofix.evaluation import LEVELS
from geofix.geo import xyz_to_latlon

if TYPE_CHECKING:
    from geofix.aggregate import Cluster
    from geofix.decision import Decision

STRATEGIES = ("posterior", "classification", "retrieval", "swc")
"""The default first; the others stand beside it."""

Answers = dict[str, Location]
"""An image's answer by each strategy."""


def ask_server(client: Client) -> Callable[[bytes], Answers]:
    """Answers of a running platform."""

    def answer(data: bytes) -> Answers:
        return {
            strategy: client.locate(
                data,
                LocateOptions(
                    strategy=strategy, probabilities=LEVELS, max_alternatives=100, max_cells=0, max_neighbors=0
                ),
            )
            for strategy in STRATEGIES
        }

    return answer


def ask_bundle(directory: Path) -> Callable[[bytes], Answers]:
    """Answers of a bundle in this process, from one pass of the backbone.

    Raises:
        GeofixError: the bundle is not whole, or its models do not run.
    """
    from geofix.bundle import Bundle
    from geofix.decision import Strategy
    from geofix.local import LocalEngine

    bundle = Bundle.load(directory)
    calibration = bundle.calibration
    engine = LocalEngine(bundle)

    def answer(data: bytes) -> Answers:
        heads = engine.heads(engine.feature(data)[None])[0]
        answers = {}
        for strategy in STRATEGIES:
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


def _alternative(cluster: Cluster, decision: Decision) -> Alternative:
    lat, lon = xyz_to_latlon(cluster.xyz)
    weight = float(decision.weights[list(cluster.members)].sum())
    return Alternative(float(lat), float(lon), weight, len(cluster.members))
