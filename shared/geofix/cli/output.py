"""What commands write: the table for people, a JSON record for programs, lines about errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from geofix.cli.answers import Answered
from geofix.client import Location
from geofix.errors import GeofixError, Unavailable
from geofix.geo import haversine_km
from geofix.places import describe

T = TypeVar("T")
Truth = Callable[[Path], tuple[float, float] | None]
PIPED_WIDTH = 200
"""Columns of output that goes to a file or another program: wide enough that nothing is cut."""


def output_console() -> Console:
    """The console on stdout. Where that is not a terminal: no colours, and no line is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH, soft_wrap=True)


def printable(path: Path | str) -> str:
    """A file's name for people and JSON: what cannot be shown (bytes that are not UTF-8, control characters) is a `?`."""
    text = str(path).encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def say(message: str) -> None:
    """A line on stderr."""
    print(message, file=sys.stderr, flush=True)


class ErrorLines:
    """Says on stderr which file was not answered and why; a service that is down is said once, not for every file."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._said: set[str] = set()

    def tell(self, path: Path, error: GeofixError | None) -> None:
        """Say it, if there is something to say."""
        if error is None:
            return
        if isinstance(error, Unavailable):
            if error.message not in self._said:
                say(f"geofix {self._command}: {error.message}")
            self._said.add(error.message)
        else:
            say(f"geofix {self._command}: {printable(path)}: {error.message}")


def follow(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a progress bar on stderr where that is a terminal and there are more than a few."""
    console = Console(stderr=True)
    if not console.is_terminal or total < 5:
        yield from items
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # Lines on the same terminal go above the bar; an output that is elsewhere is not the bar's to redirect.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as progress:
        task = progress.add_task("", total=total)
        for item in items:
            yield item
            progress.advance(task)


def record(answered: Answered[Location], truth: tuple[float, float] | None, top: int = 0) -> dict[str, Any]:
    """The JSON object of one file; lengths in km, times in milliseconds."""
    name, location = printable(answered.path), answered.value
    if location is None:
        assert answered.error is not None
        return {
            "file": name,
            "error": answered.error.message,
            "reason": answered.error.reason.value,
            "metadata": answered.error.metadata,
        }
    out: dict[str, Any] = {
        "file": name,
        "lat": round(location.lat, 6),
        "lon": round(location.lon, 6),
        "place": describe(location.lat, location.lon),
        "localizable": location.localizable,
        "radius_km": _km(location.radius_m(0.9)),
        "radius_50_km": _km(location.radius_m(0.5)),
        "method": location.method,
        "strategy": location.strategy,
    }
    if truth is not None:
        out["distance_km"] = distance_to(answered, truth)
    if top:
        out["alternatives"] = [
            {
                "lat": round(a.lat, 6),
                "lon": round(a.lon, 6),
                "place": describe(a.lat, a.lon),
                "weight": round(a.weight, 4),
                "neighbors": a.neighbors,
            }
            for a in location.alternatives[:top]
        ]
    return out | {
        "model_version": location.model_version,
        "gallery_version": location.gallery_version,
        "cached": location.cached,
        "elapsed_ms": round(answered.elapsed_s * 1000, 1),
    }


def distance_to(answered: Answered[Location], truth: tuple[float, float]) -> float | None:
    """Distance of the estimate to the truth, km; None without an answer."""
    location = answered.value
    return None if location is None else round(float(haversine_km(location.lat, location.lon, *truth)), 3)


def _km(metres: float | None) -> float | None:
    return None if metres is None else round(metres / 1000, 3)
