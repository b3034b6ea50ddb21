"""An answer for notebooks: a sentence and a map as inline SVG, without scripts, fonts or requests."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from geofix.circle import circle_rings
from geofix.places import describe
from geofix.worldmap import View

if TYPE_CHECKING:
    from geofix.client.location import Location

_WIDTH = 560
_LEAST_REACH = 1.5
"""Degrees that a map shows at least on every side: enough to recognise a coast or a border."""
_GUESS_REACH = 20.0
"""Degrees on every side of an answer without a radius."""
_KM_A_DEGREE = 111.195


def html_of(location: Location) -> str:
    """A `<figure>` with the map and what the answer says."""
    return (
        f'<figure style="margin:0;max-width:{_WIDTH}px;font:14px/1.4 system-ui,sans-serif">{map_of(location)}'
        f"<figcaption>{'<br>'.join(escape(line) for line in sentences(location))}</figcaption></figure>"
    )


def sentences(location: Location) -> list[str]:
    """What an answer says, for people."""
    place = f"{location.lat:.4f}, {location.lon:.4f}: {describe(location.lat, location.lon)}"
    if not location.localizable:
        return ["This image cannot be located.", f"Best guess: {place}"]
    sure = [f"{100 * p:.0f} % sure within {_km(location.radii[p])}" for p in sorted(location.radii)]
    evidence = f"from {location.neighbors_used} similar images" if location.neighbors_used else "from its cell alone"
    unsure = f"no radius: {location.degraded_message}" if location.degraded else "no radius: not calibrated"
    return [place, "; ".join(sure) or unsure, f"{evidence}; model {location.model_version}"]


def map_of(location: Location) -> str:
    """An `<svg>` around the estimate: radii, alternatives and neighbours on land and sea."""
    largest = max(location.radii.values(), default=0.0) / 1000 / _KM_A_DEGREE
    reach = max(1.6 * largest, _LEAST_REACH) if location.radii else _GUESS_REACH
    view = View.around(location.lat, location.lon, reach, _WIDTH)
    step = 2.0 if view.half_height > 45 else 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {view.width} {view.height}"'
        f' style="width:100%;border-radius:6px"><title>{escape(" ".join(sentences(location)))}</title>',
        f'<rect width="{view.width}" height="{view.height}" fill="#d6e6f0"/>',
        f'<path d="{view.land(step)}" fill="#f5f2e9" stroke="#9fa8a3" stroke-width=".7"/>',
    ]
    for probability in sorted(location.radii, reverse=True):
        rings = circle_rings(location.lat, location.lon, location.radii[probability])
        parts.append(f'<path d="{view.path(rings)}" fill="#b3261e" fill-opacity=".12" stroke="#b3261e"/>')
    parts += [
        _dot(view, n.lat, n.lon, 2.5, "#1b6ca8", f"neighbour, similarity {n.similarity:.2f}")
        for n in location.neighbors
    ]
    parts += [
        _dot(view, a.lat, a.lon, 4, "#e08a00", f"alternative, weight {a.weight:.2f}") for a in location.alternatives
    ]
    colour = "#b3261e" if location.localizable else "#6b6b6b"
    parts.append(_dot(view, location.lat, location.lon, 5.5, colour, "estimate"))
    return "".join([*parts, "</svg>"])


def _dot(view: View, lat: float, lon: float, radius: float, colour: str, title: str) -> str:
    x, y = view.project(lon, lat)
    if not (0 <= x <= view.width and 0 <= y <= view.height):
        return ""
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" stroke="#fff" stroke-width="1">'
        f"<title>{escape(title)}</title></circle>"
    )


def _km(metres: float) -> str:
    return f"{metres / 1000:,.0f} km" if metres >= 10_000 else f"{metres / 1000:.1f} km"
