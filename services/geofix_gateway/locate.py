"""The request walk: classify, embed, search, decide. Knows the other services by what they do, not by their protos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from geofix.area import Area
from geofix.bundle import Bundle
from geofix.calibration import Calibration
from geofix.decision import Decision, SearchPlan, Strategy, decide, plan
from geofix.density import DensityCell, density_cells
from geofix.errors import DeadlineExceeded, GeofixError, InvalidInput, Unavailable
from geofix.posterior import CellScores, Neighbors
from geofix.telemetry.metrics import ANSWERS, CELL_WEIGHT, RADIUS_METERS
from geofix.telemetry.stages import stage
from geofix_gateway.confine import MOST_CELLS, Confinement

Deadline = Callable[[], float]
"""Seconds that are left."""


@dataclass(frozen=True)
class Source:
    """Exactly one is set: the bytes of an image file, or a feature as little-endian float32."""

    image: bytes | None = None
    feature: bytes | None = None


_LIMITS = (("max_neighbors", 1000), ("max_cells", 64), ("max_alternatives", 100), ("max_density_cells", 256))


@dataclass(frozen=True)
class Options:
    """How to answer, checked.

    Raises:
        InvalidInput: an option is out of its range.
    """

    strategy: Strategy = Strategy.POSTERIOR
    probabilities: tuple[float, ...] = (0.5, 0.9)
    max_neighbors: int = 20
    max_cells: int = 5
    max_alternatives: int = 5
    bypass_cache: bool = False
    allow_degraded: bool = False
    area: Area | None = None
    max_density_cells: int = 0

    def __post_init__(self) -> None:
        if len(self.probabilities) > 16 or not all(0.5 <= p <= 0.95 for p in self.probabilities):
            raise _out_of_range("radius_probabilities", "at most 16 values of 0.5 to 0.95")
        for name, limit in _LIMITS:
            if not 0 <= getattr(self, name) <= limit:
                raise _out_of_range(name, f"0 to {limit}")


@dataclass(frozen=True)
class Classified:
    """What the classifier says of a source, and the milliseconds that it reports for its parts.

    `embedding` is empty where the classifier leaves that to the embedder.
    """

    scores: CellScores
    feature: bytes
    parts_ms: Mapping[str, float] = field(default_factory=dict)
    embedding: bytes = b""


@dataclass(frozen=True)
class Found:
    """Neighbours with what is known of their pictures: each tuple as long as `neighbors`."""

    neighbors: Neighbors
    ids: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    fields: tuple[Mapping[str, str], ...] = ()
    parts_ms: Mapping[str, float] = field(default_factory=dict)

    def only(self, ranks: NDArray[np.intp]) -> Found:
        """Those of these ranks, in their order."""
        picked = ranks.tolist()
        neighbors = self.neighbors
        return Found(
            Neighbors(neighbors.cell_id[picked], neighbors.xyz[picked], neighbors.similarity[picked]),
            tuple(self.ids[rank] for rank in picked),
            tuple(self.pictures[rank] for rank in picked),
            tuple(self.attributions[rank] for rank in picked),
            tuple(self.fields[rank] for rank in picked) if self.fields else (),
            self.parts_ms,
        )


@dataclass(frozen=True)
class Answer:
    """An estimate with its evidence. `radii_km` is empty unless `calibrated` and `localizable`.

    `degraded` is the error for which the search was left out, or None.
    """

    decision: Decision
    scores: CellScores
    found: Found
    localizable: bool
    calibrated: bool
    radii_km: tuple[tuple[float, float], ...]
    gallery_version: str
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    degraded: GeofixError | None = None
    density: tuple[DensityCell, ...] = ()


class Downstream(Protocol):
    """What the gateway asks of the other services. Each call raises GeofixError naming the service that failed."""

    async def classify(self, source: Source, left: Deadline, max_cells: int) -> Classified:
        """Scores of the best cells (0: the classifier's default count of them), and the feature."""

    async def embed(self, feature: bytes, left: Deadline) -> bytes:
        """The embedding."""

    async def search(
        self, embedding: bytes, search: SearchPlan, area: Area | None, gallery_version: str, left: Deadline
    ) -> Found:
        """The neighbours, best first."""


WATCHED_PROBABILITY = 0.9
"""The probability whose radii the metrics keep, of the answers that give it."""
NOTHING_FOUND = Found(Neighbors(np.empty(0, np.int32), np.empty((0, 3)), np.empty(0)))


class Locator:
    """Answers questions with one bundle."""

    def __init__(self, bundle: Bundle, downstream: Downstream) -> None:
        self.bundle = bundle
        self._rule = bundle.manifest.decision
        self._calibration = bundle.calibration
        self._downstream = downstream
        self._confinement = Confinement(bundle.cells, self._rule)
        self._fitted = {bundle.gallery_version: bundle.calibration.radius}
        self._inside = 0

    def note_calibration(self, gallery_version: str, calibration: str) -> None:
        """Take the radii that were fitted for a gallery version when it was promoted: the JSON of its calibration, or nothing."""
        if gallery_version in self._fitted:
            return
        try:
            found = Calibration.model_validate_json(calibration) if calibration else None
        except ValidationError:
            found = None  # another generation's: as good as none
        usable = found is not None and found.rule == self._rule
        self._fitted[gallery_version] = found.radius if found is not None and usable else None

    def is_calibrated(self, strategy: Strategy, gallery_version: str) -> bool:
        """Whether radii were fitted for this strategy over this gallery version."""
        return strategy is Strategy.POSTERIOR and self._fitted.get(gallery_version) is not None

    async def locate(self, source: Source, options: Options, gallery_version: str, left: Deadline) -> Answer:
        """The answer over one gallery version.

        Raises:
            GeofixError: the image cannot be read, nothing lies in the area, or a service failed (the message names it).
        """
        self._inside += 1
        try:
            return await self._locate(source, options, gallery_version, left)
        finally:
            self._inside -= 1

    async def _locate(self, source: Source, options: Options, gallery_version: str, left: Deadline) -> Answer:
        clock = _Stages()
        area = options.area
        if area is not None:
            await asyncio.to_thread(self._confinement.cells_of, area)  # before any work
        with stage("classify", "client") as call:
            classified = await self._downstream.classify(source, left, 0 if area is None else MOST_CELLS)
            scores = classified.scores
            call.set(model_version=self.bundle.version, cell=int(scores.cell_id[0]) if len(scores.cell_id) else -1)
        clock.lap("classify", classified.parts_ms)
        if area is None:
            search = plan(self._rule, options.strategy, scores)
        else:
            scores = self._confinement.scores(area, scores)
            search = self._confinement.plan(area, options.strategy, scores)
        found, degraded = NOTHING_FOUND, None
        if search.k:
            try:
                found = await self._search(classified, search, area, gallery_version, left, clock)
                if area is not None:
                    found = found.only(self._confinement.places(area, options.strategy, scores, found.neighbors))
            except (Unavailable, DeadlineExceeded) as error:
                if not options.allow_degraded or left() <= 0:
                    raise
                degraded = error
        with stage("aggregate") as work:
            decision, density = await self._decided(options, scores, found.neighbors)
            work.set(neighbors=len(found.neighbors))
        clock.lap("aggregate")
        localizable = self._calibration.localizable(decision.signals)
        self._count(decision, scores, localizable=localizable)
        # Radii were fitted on searches of the whole Earth: a mean for want of one has none, nor has what an area confines.
        calibrated = degraded is None and area is None and self.is_calibrated(options.strategy, gallery_version)
        radii: list[tuple[float, float]] = []
        fit = self._fitted.get(gallery_version)
        if localizable and calibrated and fit is not None:
            radii = [(probability, fit.at(decision.signals, probability)) for probability in options.probabilities]
            for probability, radius_km in radii:
                if probability == WATCHED_PROBABILITY:
                    RADIUS_METERS.observe(radius_km * 1000)
        used = gallery_version if search.k and degraded is None else ""
        return Answer(
            decision, scores, found, localizable, calibrated, tuple(radii), used, clock.milliseconds, degraded, density
        )

    async def _decided(
        self, options: Options, scores: CellScores, neighbors: Neighbors
    ) -> tuple[Decision, tuple[DensityCell, ...]]:
        """A few milliseconds of numpy and scikit-learn: in a thread where other requests would wait for it meanwhile."""
        if self._inside == 1 and options.area is None and not options.max_density_cells:
            return self._decide(options, scores, neighbors)
        return await asyncio.to_thread(self._decide, options, scores, neighbors)

    def _decide(
        self, options: Options, scores: CellScores, neighbors: Neighbors
    ) -> tuple[Decision, tuple[DensityCell, ...]]:
        decision = decide(self._rule, options.strategy, scores, neighbors)
        if options.area is not None:
            return self._confinement.decision(options.area, decision, scores, neighbors), ()
        if not options.max_density_cells:
            return decision, ()
        kappa, used = self.bundle.cells.kappa[scores.cell_id], neighbors.xyz[: len(decision.weights)]
        return decision, tuple(density_cells(scores, kappa, used, decision.weights, options.max_density_cells))

    def _count(self, decision: Decision, scores: CellScores, *, localizable: bool) -> None:
        ANSWERS.add(1, decision.method.value, str(localizable).lower())
        if len(scores.log_weight):
            CELL_WEIGHT.observe(float(np.exp(scores.log_weight[0])))

    async def _search(
        self,
        classified: Classified,
        search: SearchPlan,
        area: Area | None,
        gallery_version: str,
        left: Deadline,
        clock: _Stages,
    ) -> Found:
        embedding = classified.embedding
        if not embedding:
            with stage("embed", "client"):
                embedding = await self._downstream.embed(classified.feature, left)
            clock.lap("embed")
        with stage("search", "client") as call:
            call.set(gallery_version=gallery_version, cells=len(search.cells), k=search.k)
            found = await self._downstream.search(embedding, search, area, gallery_version, left)
        clock.lap("search", found.parts_ms)
        return found


class _Stages:
    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str, parts_ms: Mapping[str, float] | None = None) -> None:
        now = time.perf_counter()
        self.milliseconds |= {stage: (now - self._last) * 1000, **(parts_ms or {})}
        self._last = now


def _out_of_range(option: str, allowed: str) -> InvalidInput:
    return InvalidInput(f"{option} must be {allowed}", metadata={"option": option})
