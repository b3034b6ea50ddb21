"""SearchArea of the contract, read as an area and written from one."""

from __future__ import annotations

from google.type.latlng_pb2 import LatLng

from geofix.area import Area, Box, Circle
from geofix.countries import Country
from geofix.errors import InvalidInput, Reason
from geofix.v1 import types_pb2


def area_from_message(message: types_pb2.SearchArea, option: str = "area") -> Area:
    """The area that a message describes.

    Args:
        message: the area.
        option: the message's name in the request, for the error.

    Raises:
        InvalidInput: OPTION_INVALID; nothing is set in it, a value is out of range, or the country is not on the map.
    """
    try:
        match message.WhichOneof("area"):
            case "circle":
                centre = message.circle.center
                return Circle(centre.latitude, centre.longitude, message.circle.radius_m)
            case "box":
                southwest, northeast = message.box.southwest, message.box.northeast
                return Box(southwest.latitude, southwest.longitude, northeast.latitude, northeast.longitude)
            case "country":
                return Country(message.country)
            case _:
                raise ValueError("set a circle, a box or a country in it")
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}", Reason.OPTION_INVALID, {"option": option}) from error


def area_to_message(area: Area) -> types_pb2.SearchArea:
    """The message that `area_from_message` reads as this area.

    Raises:
        TypeError: the contract has no such area.
    """
    match area:
        case Circle(lat, lon, radius_m):
            centre = LatLng(latitude=lat, longitude=lon)
            return types_pb2.SearchArea(circle=types_pb2.Circle(center=centre, radius_m=radius_m))
        case Box(south, west, north, east):
            corners = LatLng(latitude=south, longitude=west), LatLng(latitude=north, longitude=east)
            return types_pb2.SearchArea(box=types_pb2.Box(southwest=corners[0], northeast=corners[1]))
        case Country(code=code):
            return types_pb2.SearchArea(country=code)
        case _:
            raise TypeError(f"the contract has no {type(area).__name__}")
