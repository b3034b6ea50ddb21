"""How good answers are: accuracy within distances, GeoScore, and whether the radii hold what they say. Pure.

A failed image is a miss at half the Earth's circumference, never absent. A not-localizable answer counts with its best guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geofix.geo import FloatArray, haversine_km

WITHIN_KM = (0.1, 1, 25, 200, 750, 2500)
"""A spot; then street, city, region, country, continent (Hays and Efros 2008)."""
FAILED_KM = 20_015.0
"""The error of an image without an answer: half the Earth's circumference."""
GEOSCORE_KM = 1492.7
"""Decay of GeoScore, 5000 · exp(−d / 1492.7 km) (OpenStreetView-5M, Astruc et al. 2024; GeoGuessr's world map)."""
CLUSTERED = 3
"""Neighbours that make a cluster evidence: fewer say nothing that the best match does not."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities whose radii are evaluated."""


@dataclass(frozen=True)
class Outcome:
    """One image's truth and answer, degrees and km; without an answer `lat` and `lon` are None.

    `largest_cluster` counts the neighbours in the largest of the clusters that the answer rests on.
    """

    truth: tuple[float, float]
    lat: float | None = None
    lon: float | None = None
    localizable: bool = False
    radii_km: Mapping[float, float] = field(default_factory=dict)
    largest_cluster: int = 0


@dataclass(frozen=True)
class Metrics:
    """What `summarise` finds over n images; shares in percent, lengths in km.

    Attributes:
        n: images.
        failed: images without an answer.
        localizable: answers that say so.
        within: km -> share of the images whose error is at most that.
        median_km: of the errors.
        mean_km: of the errors.
        geoscore: mean GeoScore, 0 to 5000.
        radius_share: share of the images whose answer has radii.
        coverage: probability in percent -> share of the answers with a radius that hold the truth; None without any.
        radius_km: probability in percent -> median radius; None without any.
        clustered_share: share of the localizable answers whose largest cluster has `CLUSTERED` neighbours; None without any.
    """

    n: int
    failed: int
    localizable: int
    within: dict[float, float]
    median_km: float
    mean_km: float
    geoscore: float
    radius_share: float
    coverage: dict[int, float | None]
    radius_km: dict[int, float | None]
    clustered_share: float | None

    def record(self) -> dict[str, Any]:
        """The metrics as JSON can hold them; `median_radius_km` is of the 90 % radius."""
        return {
            "n": self.n,
            "failed": self.failed,
            "localizable": self.localizable,
            "localizable_share": _rounded(100 * self.localizable / self.n),
            "within": {f"{km:g}": _rounded(share) for km, share in self.within.items()},
            "median_km": _rounded(self.median_km),
            "mean_km": _rounded(self.mean_km),
            "geoscore": _rounded(self.geoscore),
            "coverage": {str(p): _rounded(share) for p, share in self.coverage.items()},
            "radius_share": _rounded(self.radius_share),
            "median_radius_km": _rounded(self.radius_km[90]),
            "median_radius_50_km": _rounded(self.radius_km[50]),
            "clustered_share": _rounded(self.clustered_share),
        }


def geoscore(error_km: FloatArray) -> FloatArray:
    """GeoScore of each error in km, 0 to 5000."""
    return np.asarray(5000.0 * np.exp(-error_km / GEOSCORE_KM), float)


def errors_km(outcomes: Sequence[Outcome]) -> FloatArray:
    """Error of each outcome in km, shape (n,); `FAILED_KM` without an answer."""
    return np.array(
        [
            FAILED_KM if o.lat is None or o.lon is None else float(haversine_km(o.lat, o.lon, *o.truth))
            for o in outcomes
        ],
        float,
    )


def summarise(outcomes: Sequence[Outcome]) -> Metrics:
    """The metrics over all outcomes.

    Raises:
        ValueError: there are none.
    """
    if not outcomes:
        raise ValueError("there is nothing to evaluate")
    error = errors_km(outcomes)
    with_radius = [i for i, o in enumerate(outcomes) if o.radii_km]
    coverage: dict[int, float | None] = {}
    radius: dict[int, float | None] = {}
    for level in LEVELS:
        has = [i for i in with_radius if level in outcomes[i].radii_km]
        radii = np.array([outcomes[i].radii_km[level] for i in has])
        key = round(100 * level)
        coverage[key] = 100 * float((error[has] <= radii).mean()) if has else None
        radius[key] = float(np.median(radii)) if has else None
    return Metrics(
        n=len(outcomes),
        failed=sum(o.lat is None for o in outcomes),
        localizable=sum(o.lat is not None and o.localizable for o in outcomes),
        within={km: 100 * float((error <= km).mean()) for km in WITHIN_KM},
        median_km=float(np.median(error)),
        mean_km=float(error.mean()),
        geoscore=float(geoscore(error).mean()),
        radius_share=100 * len(with_radius) / len(outcomes),
        coverage=coverage,
        radius_km=radius,
        clustered_share=_share(
            [o.largest_cluster >= CLUSTERED for o in outcomes if o.lat is not None and o.localizable]
        ),
    )


def by_continent(outcomes: Sequence[Outcome]) -> dict[str, Metrics]:
    """The metrics of the outcomes whose truth is on each continent, those with most first."""
    from geofix.continents import continents_of

    names = continents_of(*np.array([o.truth for o in outcomes]).T)
    parts = {
        str(name): [o for o, here in zip(outcomes, names == name, strict=True) if here] for name in np.unique(names)
    }
    return {name: summarise(part) for name, part in sorted(parts.items(), key=lambda item: -len(item[1]))}


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of shares (percent) and of the median error (km)."""

    within: dict[float, tuple[float, float]]
    median_km: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """The intervals as JSON can hold them."""
        return {
            "within": {f"{km:g}": [_rounded(end) for end in ends] for km, ends in self.within.items()},
            "median_km": [_rounded(end) for end in self.median_km],
        }


def intervals(error_km: FloatArray, places: Sequence[object], seed: int = 0, rounds: int = 1000) -> Intervals:
    """Intervals by bootstrap over places, not images: images of one place are answered alike, and are not independent.

    Args:
        error_km: shape (n,).
        places: what tells an image's place (or group) from the others', length n.
        seed: of the resampling.
        rounds: of it.
    """
    names = {place: number for number, place in enumerate(dict.fromkeys(places))}
    of_image = np.array([names[place] for place in places])
    order = np.argsort(error_km, kind="stable")
    rng = np.random.default_rng(seed)
    shares, medians = np.empty((rounds, len(WITHIN_KM))), np.empty(rounds)
    reach = np.searchsorted(error_km[order], WITHIN_KM, "right")
    for number in range(rounds):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        total = np.concatenate([[0], np.cumsum(drawn[of_image][order])])
        shares[number] = 100 * total[reach] / max(total[-1], 1)
        medians[number] = error_km[order][min(int(np.searchsorted(total[1:], total[-1] / 2)), len(order) - 1)]
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    ends = np.quantile(medians, [0.025, 0.975])
    return Intervals(
        {km: (float(a), float(b)) for km, a, b in zip(WITHIN_KM, low, high, strict=True)},
        (float(ends[0]), float(ends[1])),
    )


@dataclass(frozen=True)
class Gain:
    """How many more images one strategy places within `within_km` than another, in points, with its 95 % interval."""

    within_km: int
    points: float
    low: float
    high: float

    def record(self) -> dict[str, Any]:
        """The gain as JSON can hold it."""
        return {
            "within_km": self.within_km,
            "points": _rounded(self.points),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
        }


def gain(
    ours_km: FloatArray,
    theirs_km: FloatArray,
    within_km: int = 200,
    places: Sequence[object] | None = None,
    seed: int = 0,
    rounds: int = 2000,
) -> Gain:
    """The gain of one strategy over another from their errors on the same images, km, (n,), by paired bootstrap.

    Args:
        ours_km: shape (n,).
        theirs_km: shape (n,).
        within_km: what counts as right.
        places: what tells an image's place (or group) from the others', length n, to resample places; None: images.
        seed: of the resampling.
        rounds: of it.
    """
    difference = (ours_km <= within_km).astype(float) - (theirs_km <= within_km).astype(float)
    names: dict[object, int] = {}
    of_image = np.array([names.setdefault(place, len(names)) for place in places or range(len(difference))])
    sums, sizes = np.bincount(of_image, difference), np.bincount(of_image)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (rounds, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [0.025, 0.975])
    return Gain(within_km, 100 * float(difference.mean()), 100 * float(low), 100 * float(high))


def _share(values: Sequence[bool]) -> float | None:
    return 100 * float(np.mean(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
