"""What all commands write alike: the console, names that can be shown, lines about errors, progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from geofix.cli.answers import Answered
from geofix.cli.inputs import Input
from geofix.client import Location
from geofix.errors import GeofixError, Unavailable
from geofix.geo import haversine_km

T = TypeVar("T")
Truth = Callable[[Input], tuple[float, float] | None]
"""Where an image was really taken, if that is known: lat, lon in degrees."""
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

    def tell(self, name: str, error: GeofixError | None) -> None:
        """Say it, if there is something to say."""
        if error is None:
            return
        if isinstance(error, Unavailable):
            if error.message not in self._said:
                say(f"geofix {self._command}: {error.message}")
            self._said.add(error.message)
        else:
            say(f"geofix {self._command}: {printable(name)}: {error.message}")


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


def distance_to(answered: Answered[Location], truth: tuple[float, float]) -> float | None:
    """Distance of the estimate to the truth, km; None without an answer."""
    location = answered.value
    return None if location is None else round(float(haversine_km(location.lat, location.lon, *truth)), 3)
