"""The table that `geofix locate` and `geofix demo` print: one row an image."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geofix.cli.answers import Answered
from geofix.cli.output import Truth, distance_to, printable
from geofix.client import Alternative, Location
from geofix.places import describe

_FOUND_BY = {"cell_search": "cell search", "gallery_search": "gallery search", "cell_mean": "cell mean"}
_NARROW = 116
"""Below so many columns a place's name stands under its coordinates, not beside them."""


def locations_table(answers: Sequence[Answered[Location]], truth: Truth, top: int, console: Console) -> Table:
    """A row for each file that was answered, and its `top` best alternatives under it, for the width of a console."""
    truths = [truth(answered.source) for answered in answers]
    knows = any(place is not None for place in truths)
    piped, narrow = not console.is_terminal, console.is_terminal and console.width < _NARROW
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    # On a terminal a long name folds; anywhere else nothing does, so that a line is a record.
    table.add_column("file", no_wrap=piped, overflow="fold", min_width=8)
    table.add_column("estimate", no_wrap=piped, overflow="fold", min_width=17)
    if not narrow:
        table.add_column("place", no_wrap=piped, overflow="fold", min_width=20)
    table.add_column("50 %, 90 % within", justify="right", no_wrap=not narrow)
    table.add_column("found by", no_wrap=not narrow)
    if knows:
        table.add_column("off by", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for answered, place in zip(answers, truths, strict=True):
        location = answered.value
        if location is None:
            continue
        off = None if place is None else distance_to(answered, place)
        table.add_row(
            Text(printable(answered.source.name)),
            *_where(location, narrow),
            Text(_radii(location)),
            _found_by(location),
            *([Text("" if off is None else _km(off))] if knows else []),
            Text(_time(answered.elapsed_s)),
            style="" if location.localizable else "dim",
        )
        for rank, other in enumerate(location.alternatives[:top], 1):
            name = Text(f"{rank}.", justify="right")
            table.add_row(name, *_where(other, narrow), Text(""), Text(_support(other)), style="dim")
    return table


def _where(place: Location | Alternative, narrow: bool) -> list[Text]:
    degrees, name = f"{place.lat:7.3f}, {place.lon:8.3f}", describe(place.lat, place.lon)
    return [Text(f"{degrees}\n{name}")] if narrow else [Text(degrees), Text(name)]


def _radii(location: Location) -> str:
    found = [location.radius_m(probability) for probability in (0.5, 0.9)]
    return ", ".join("–" if metres is None else _km(metres / 1000) for metres in found) if location.radii else "–"


def _support(alternative: Alternative) -> str:
    images = "1 image" if alternative.neighbors == 1 else f"{alternative.neighbors} images"
    return f"{100 * alternative.weight:.0f} %, {images}"


def _found_by(location: Location) -> Text:
    if not location.localizable:
        return Text("not localizable", style="yellow")
    if location.degraded:
        return Text("cell mean, degraded", style="yellow")
    return Text(_FOUND_BY.get(location.method, location.method))


def _km(km: float) -> str:
    return f"{km:,.0f} km" if km >= 10 else f"{km:.1f} km"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
