"""What of an answer may be shown where the operator denies areas: nothing of an estimate inside, nothing inside of any other.

It looks at the finished response, so that an answer from the cache, from another's computation and of one's own are alike, and a
change of the list holds at once.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from google.type.latlng_pb2 import LatLng

from geofix.area import Area, s2_places
from geofix.errors import PermissionDenied, Reason
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.watched import Watched
from geofix_gateway.denied_areas import SETTING, in_any, near_any, read_areas

T = TypeVar("T")


class Screen:
    """The list of a file, read again when it changes.

    Raises:
        ConfigurationError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._areas = Watched(SETTING, [path], lambda: read_areas(path))

    def show(self, data: bytes) -> bytes:
        """A serialised LocateResponse without what lies in a denied area.

        Raises:
            PermissionDenied: AREA_DENIED; the estimate does.
        """
        areas = self._areas.get()
        if not areas:
            return data
        response = pb.LocateResponse.FromString(data)
        if in_any(areas, [response.location.latitude], [response.location.longitude])[0]:
            raise PermissionDenied("the operator gives no answer about where this was taken", Reason.AREA_DENIED)
        _leave_out(response, areas)
        return response.SerializeToString()


def _leave_out(response: pb.LocateResponse, areas: tuple[Area, ...]) -> None:
    clusters = _denied(areas, [each.location for each in response.alternatives])
    neighbors = _denied(areas, [each.neighbor.location for each in response.neighbors])
    cells = _denied(areas, [each.mean for each in response.cells])
    centre, reach_km = s2_places([each.s2_token for each in response.density])
    density = near_any(areas, centre, reach_km).tolist()
    _drop(response.neighbors, neighbors)
    _drop(response.alternatives, clusters)
    _drop(response.cells, cells)
    _drop(response.density, density)
    total = sum(each.probability for each in response.density)
    for cell in response.density:  # they sum to 1 as ever: what is missing is not said by the rest
        cell.probability /= total
    for each in response.neighbors:
        at = each.alternative
        if at >= 0:
            gone = at < len(clusters) and clusters[at]
            each.alternative = -1 if gone else at - sum(clusters[:at])


def _denied(areas: tuple[Area, ...], places: list[LatLng]) -> list[bool]:
    lat, lon = [place.latitude for place in places], [place.longitude for place in places]
    return [bool(inside) for inside in in_any(areas, np.array(lat, float), np.array(lon, float))]


def _drop(repeated: MutableSequence[T], denied: list[bool]) -> None:
    for index in reversed(np.flatnonzero(denied).tolist()):
        del repeated[index]
