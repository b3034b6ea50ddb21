"""`--map FILE`: one HTML file with the answers on a map; it asks nothing of any network, and says so to the browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from geofix.circle import circle_rings
from geofix.cli.answers import Answered
from geofix.cli.output import Truth, distance_to, printable
from geofix.client import Location
from geofix.client.html import sentences
from geofix.worldmap import View

_WORLD = View(0.0, 0.0, 90.0, 2400)
_GUESS_REACH = 400.0
"""Pixels to show around an answer without a radius."""


def write_map(path: Path, answers: Sequence[Answered[Location]], truth: Truth) -> None:
    """Write the file.

    Raises:
        OSError: it cannot be written.
    """
    shown = [_answer(answered, truth) for answered in answers if answered.value is not None]
    # In a script element `<` is what could end it.
    data = json.dumps(shown, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    template = Template((resources.files("geofix") / "data/map.html").read_text(encoding="utf-8"))
    page = template.substitute(width=_WORLD.width, height=_WORLD.height, land=_WORLD.land(), answers=data)
    path.write_text(page, encoding="utf-8")


def _answer(answered: Answered[Location], truth: Truth) -> dict[str, Any]:
    location = answered.value
    assert location is not None
    x, y = _WORLD.project(location.lon, location.lat).round(2).tolist()
    place = truth(answered.source)
    says = sentences(location)[: 2 if location.localizable or place is None else None]
    if place is not None:
        says.append(f"{distance_to(answered, place):,.0f} km from the truth")
    largest_m = max(location.radii.values(), default=0.0)
    return {
        "name": printable(answered.source.name),
        "x": x,
        "y": y,
        "reach": round(largest_m / 111_195 * _WORLD.height / 180, 1) if location.radii else _GUESS_REACH,
        "localizable": location.localizable,
        "says": " · ".join(says),
        "areas": [_WORLD.path(circle_rings(location.lat, location.lon, m), 0.1) for m in location.radii.values()],
        "truth": None if place is None else _WORLD.project(place[1], place[0]).round(2).tolist(),
    }
