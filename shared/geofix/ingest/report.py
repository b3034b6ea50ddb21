"""What a run of `add` did: counts, and every image that was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from geofix.ingest.items import Skipped, Why

MOST_LISTED = 10_000
"""Of one reason; beyond, only counted, so that a report of ten million mistakes still fits in memory."""


@dataclass
class Report:
    """Counts of images: added (with those set aside), already there, skipped by reason."""

    version: str = ""
    added: int = 0
    set_aside: int = 0
    already_there: int = 0
    seconds: float = 0.0
    skipped: Counter[Why] = field(default_factory=Counter)
    listed: list[Skipped] = field(default_factory=list)

    def skip(self, what: Skipped) -> None:
        """Count and list an image that was left out."""
        self.skipped[what.why] += 1
        if self.skipped[what.why] <= MOST_LISTED:
            self.listed.append(what)

    def merge(self, other: Report) -> None:
        """Count what another has counted too; all but the time."""
        self.added += other.added
        self.set_aside += other.set_aside
        self.already_there += other.already_there
        listed = Counter(what.why for what in other.listed)
        self.skipped.update(other.skipped)
        self.skipped.subtract(listed)  # `skip` counts them
        for what in other.listed:
            self.skip(what)

    @property
    def seen(self) -> int:
        """Images of the source that were dealt with."""
        return self.added + self.already_there + sum(self.skipped.values())

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "version": self.version,
            "seen": self.seen,
            "added": self.added,
            "set_aside": self.set_aside,
            "already_there": self.already_there,
            "skipped": {why.value: count for why, count in self.skipped.most_common()},
            "listed": [{"name": s.name, "why": s.why.value, "detail": s.detail} for s in self.listed],
            "seconds": round(self.seconds, 3),
        }
