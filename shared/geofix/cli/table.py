"""The table that `geofix locate` and `geofix demo` print: one row an image."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from geofix.cli.answers import Answered
from geofix.cli.output import Truth, distance_to, printable
from geofix.client import Alternative, Location
from geofix.places import describe

_FOUND_BY = {"cell_search": "cell search", "gallery_search": "gallery search", "cell_mean": "cell mean"}


def locations_table(answers: Sequence[Answered[Location]], truth: Truth, top: int, *, piped: bool) -> Table:
    """A row for each file that was answered, and its `top` best alternatives under it."""
    truths = [truth(answered.path) for answered in answers]
    knows = any(place is not None for place in truths)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    # On a terminal a long name folds; anywhere else nothing is folded, so that a line is a record.
    table.add_column("file", no_wrap=piped, overflow="fold")
    table.add_column("estimate", no_wrap=True)
    table.add_column("place", no_wrap=piped, overflow="fold")
    table.add_column("50 %", justify="right", no_wrap=True)
    table.add_column("90 %", justify="right", no_wrap=True)
    table.add_column("found by", no_wrap=True)
    if knows:
        table.add_column("off by", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for answered, place in zip(answers, truths, strict=True):
        location = answered.value
        if location is None:
            continue
        cells = [
            Text(printable(answered.path)),
            Text(_degrees(location.lat, location.lon)),
            Text(describe(location.lat, location.lon)),
            Text(_radius(location, 0.5)),
            Text(_radius(location, 0.9)),
            _found_by(location),
        ]
        if knows:
            off = None if place is None else distance_to(answered, place)
            cells.append(Text("" if off is None else _km(off)))
        cells.append(Text(f"{answered.elapsed_s * 1000:,.0f} ms"))
        table.add_row(*cells, style="" if location.localizable else "dim")
        for rank, alternative in enumerate(location.alternatives[:top], 1):
            table.add_row(*_alternative(rank, alternative), style="dim")
    return table


def _alternative(rank: int, alternative: Alternative) -> list[Text]:
    images = "1 image" if alternative.neighbors == 1 else f"{alternative.neighbors} images"
    return [
        Text(f"  {rank}.", justify="right"),
        Text(_degrees(alternative.lat, alternative.lon)),
        Text(describe(alternative.lat, alternative.lon)),
        Text(""),
        Text(""),
        Text(f"{100 * alternative.weight:.0f} %, {images}"),
    ]


def _degrees(lat: float, lon: float) -> str:
    return f"{lat:8.4f}, {lon:9.4f}"


def _radius(location: Location, probability: float) -> str:
    metres = location.radius_m(probability)
    return "–" if metres is None else _km(metres / 1000)


def _km(km: float) -> str:
    return f"{km:,.0f} km" if km >= 10 else f"{km:.1f} km"


def _found_by(location: Location) -> Text:
    if not location.localizable:
        return Text("not localizable", style="yellow")
    return Text(_FOUND_BY.get(location.method, location.method))
