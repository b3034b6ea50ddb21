"""The public client of a geofix gateway: `Client` blocks, `AsyncClient` is awaited; both hand out `Location`."""

from geofix.client.aio import AsyncClient
from geofix.client.connection import Tls
from geofix.client.location import Alternative, Cell, DensityCell, Location, Neighbor, ServiceInfo, Timing
from geofix.client.requests import DEFAULT_ADDRESS, LocateOptions
from geofix.client.retry import RetryPolicy
from geofix.client.sync import Client

__all__ = [
    "DEFAULT_ADDRESS",
    "Alternative",
    "AsyncClient",
    "Cell",
    "Client",
    "DensityCell",
    "LocateOptions",
    "Location",
    "Neighbor",
    "RetryPolicy",
    "ServiceInfo",
    "Timing",
    "Tls",
]
