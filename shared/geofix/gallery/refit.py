"""Fits the radii of a gallery version on the images that were set aside from it, while they are not among those searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.calibration import LEAST_QUERIES, Calibration, fit_calibration
from geofix.decision import Strategy, decide, plan
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import SET_ASIDE_MOST, ImageRow
from geofix.gallery.search import Hit
from geofix.geo import distance_km, latlon_to_xyz
from geofix.posterior import CellScores, Neighbors

BATCH = 32
"""Images classified and searched for together; no service takes more by default."""


class Classifies(Protocol):
    """What a refit needs of the classifier."""

    def cells(self, features: NDArray[np.float32]) -> list[CellScores]:
        """The best cells of features, shape (n, feature_dim)."""


def refit(
    admin: GalleryAdmin,
    info: GalleryInfo,
    bundle: Bundle,
    classifier: Classifies,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Calibration | None:
    """The calibration of a verified version, or None where fewer than 500 of the images set aside can be used.

    Raises:
        GeofixError: a service or Milvus failed.
    """
    rows = _set_aside(admin, info) if info.set_aside >= LEAST_QUERIES else []
    rule, gate = bundle.manifest.decision, bundle.calibration.gate
    signals, errors = [], []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        features = np.stack([row.feature for row in batch if row.feature is not None])
        scores = classifier.cells(features)
        plans = [plan(rule, Strategy.POSTERIOR, score) for score in scores]
        found = admin.search(info.name, [(r.embedding, p.cells, p.k) for r, p in zip(batch, plans, strict=True)])
        for row, score, hits in zip(batch, scores, found, strict=True):
            decision = decide(rule, Strategy.POSTERIOR, score, neighbors_of(hits))
            signals.append(decision.signals)
            errors.append(float(distance_km(decision.xyz, latlon_to_xyz(row.lat, row.lon))))
        progress(len(errors), len(rows))
    passed = sum(gate is None or gate(signal) >= 0 for signal in signals)
    if passed < LEAST_QUERIES:
        return None
    return fit_calibration(signals, errors, rule, gate, f"{passed} images set aside from {info.name}")


def _set_aside(admin: GalleryAdmin, info: GalleryInfo) -> list[ImageRow]:
    """Those with the smallest ids, for ids are hashes."""
    rows: list[ImageRow] = []
    while len(rows) < SET_ASIDE_MOST:
        page = admin.read(info.name, set_aside=True, after=rows[-1].id if rows else "", limit=500)
        rows += [read.row for read in page]
        if len(page) < 500:
            break
    return rows[:SET_ASIDE_MOST]


def neighbors_of(hits: Sequence[Hit]) -> Neighbors:
    """What a search found, as a decision takes it."""
    return Neighbors(
        np.array([hit.cell_id for hit in hits], np.int32),
        latlon_to_xyz([hit.lat for hit in hits], [hit.lon for hit in hits]),
        np.array([hit.similarity for hit in hits]),
    )
