"""Maps that are drawn here: places where they belong, land that is land, nothing from elsewhere, and small."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from geofix.client import Alternative, Location, Neighbor
from geofix.polygons import clip_to_box
from geofix.worldmap import View

SVG = "{http://www.w3.org/2000/svg}"


def shapes(d: str) -> list[list[tuple[float, float]]]:
    """The corners of each closed part of a path."""
    found = []
    for start, moves in re.findall(r"M([-\d. ]+)l([-\d. ]+)z", d):
        steps = np.array(moves.split(), float).reshape(-1, 2)
        found.append([tuple(p) for p in np.cumsum(np.vstack([np.array(start.split(), float), steps]), axis=0)])
    return found


def is_filled(d: str, x: float, y: float) -> bool:
    hit = False
    for shape in shapes(d):
        for (x1, y1), (x2, y2) in pairwise([*shape, shape[0]]):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                hit = not hit
    return hit


@pytest.mark.parametrize(
    ("lat", "lon", "reach", "land", "sea"),
    [
        (46.8, 8.2, 4, (46.8, 8.2), (43.6, 8.9)),
        (-17.7, 179.9, 4, (-17.8, 178.0), (-17.7, 180.0)),
        (66.0, 180.0, 4, (67.0, 179.0), (67.2, -169.5)),
        (66.0, -179.0, 4, (68.0, 178.0), (63.0, -174.0)),
        (-85.0, 20.0, 10, (-89.0, 100.0), (0.0, -30.0)),
        (0.0, 160.0, 90, (-25.0, 135.0), (0.0, -150.0)),
    ],
)
def test_land_is_land_and_sea_is_sea(
    lat: float, lon: float, reach: float, land: tuple[float, float], sea: tuple[float, float]
) -> None:
    view = View.around(lat, lon, reach, 560)
    d = view.land()
    assert is_filled(d, *view.project(land[1], land[0]))
    assert not is_filled(d, *view.project(sea[1], sea[0]))


def test_the_middle_is_in_the_middle_and_a_degree_of_latitude_is_to_scale() -> None:
    view = View.around(60, 179, 5, 400)
    assert view.project(179, 60).tolist() == pytest.approx([200, 100])
    assert view.project(179, 65).tolist() == pytest.approx([200, 0])
    assert view.project(-179, 60).tolist() == pytest.approx([220, 100]), (
        "two degrees, each half as long as at the equator"
    )


def test_clipping_keeps_what_is_inside() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    assert sorted(map(tuple, clip_to_box(square, (1, 9), (-9, 2)).tolist())) == [(1, 0), (1, 2), (4, 0), (4, 2)]
    assert len(clip_to_box(square, (5, 6), (0, 1))) == 0
    assert np.array_equal(clip_to_box(square, (-1, 5), (-1, 5)), square)


LOCATION = Location(
    lat=45.07,
    lon=7.69,
    localizable=True,
    method="cell_search",
    strategy="posterior",
    radii={0.5: 20_000, 0.9: 200_000},
    calibrated=True,
    alternatives=(Alternative(45.5, 8, 0.75, 7),),
    neighbors=(
        Neighbor("ab", 44.5, 8, 3, 0.5, 0.125, 0, "<script>", "a"),
        Neighbor("far", -41, 12, 3, 0.5, 0.1, 0, "", ""),
    ),
    neighbors_used=7,
    model_version="<b>@1",
)


def test_a_notebook_shows_a_map_and_a_sentence_and_asks_nobody() -> None:
    html = LOCATION._repr_html_()
    svg = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    assert len(svg.findall(f"{SVG}path")) == 3, "land and two radii"
    assert len(svg.findall(f"{SVG}circle")) == 3, "the estimate, the alternative and the neighbour that is near"
    assert "Turin, Italy" in html
    assert "50 % sure within 20 km; 90 % sure within 200 km" in html
    assert "from 7 similar images" in html
    assert "<b>@1" not in html
    assert "&lt;b&gt;@1" in html
    assert not re.search(r"(src|href)=|url\(|<script|@import", html)
    assert len(html) < 60_000


@pytest.mark.parametrize(("lat", "lon"), [(41.9, 12.5), (-89.5, 0), (0, 180), (70, -179.9)])
def test_every_answer_has_a_small_map(lat: float, lon: float) -> None:
    guess = replace(LOCATION, lat=lat, lon=lon, localizable=False, radii={})
    html = guess._repr_html_()
    assert "This image cannot be located." in html
    assert "Best guess" in html
    assert len(html) < 100_000
    wide = replace(LOCATION, lat=lat, lon=lon, radii={0.9: 15_000_000})
    assert len(wide._repr_html_()) < 100_000
