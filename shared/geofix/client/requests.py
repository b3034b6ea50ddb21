"""From Python arguments to the contract's requests, and from failed calls to exceptions: shared by both clients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.type.latlng_pb2 import LatLng

from geofix.errors import GeofixError, InvalidInput, Reason, Unavailable
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import types_pb2
from geofix.wire import error_from_rpc, error_from_status

if TYPE_CHECKING:
    from geofix.area import Box, Circle

DEFAULT_ADDRESS = "127.0.0.1:50051"


@dataclass(frozen=True)
class LocateOptions:
    """How to answer; None leaves the choice to the server (its defaults are the ones to start with).

    Attributes:
        strategy: "posterior" (the default, the only calibrated one), "swc", "classification" or "retrieval".
        probabilities: 0.5 to 0.95, at most 16, whose radii are wanted; None: 0.5 and 0.9.
        max_alternatives: most alternatives to return, 0 to 100.
        max_cells: most cells to return, 0 to 64.
        max_neighbors: most neighbours to return, 0 to 1000.
        max_density_cells: most S2 cells of the probability density over the Earth to return, 0 to 256; 0: none.
        bypass_cache: compute the answer even where it is cached, and do not cache it.
        area: where the image is known to be from: a `geofix.area.Circle` or `Box`, or a country's two letters (ISO 3166-1).
        allow_degraded: where nothing can be searched, accept the cell's mean (`Location.degraded`) in place of an error.
    """

    strategy: str | None = None
    probabilities: Sequence[float] | None = None
    max_alternatives: int | None = None
    max_cells: int | None = None
    max_neighbors: int | None = None
    max_density_cells: int = 0
    bypass_cache: bool = False
    allow_degraded: bool = False
    area: Circle | Box | str | None = None

    def message(self) -> pb.LocateOptions:
        """The contract's message.

        Raises:
            InvalidInput: a strategy of no such name, or a number that the contract cannot carry.
        """
        strategies = dict(pb.Strategy.items())
        strategy = strategies.get(f"STRATEGY_{(self.strategy or 'unspecified').upper()}")
        if strategy is None:
            known = ", ".join(name.removeprefix("STRATEGY_").lower() for name in list(strategies)[1:])
            message = f"there is no strategy {self.strategy!r}; choose one of {known}"
            raise InvalidInput(message, Reason.OPTION_INVALID, {"option": "strategy"})
        try:
            return pb.LocateOptions(
                strategy=strategy,
                radius_probabilities=self.probabilities or (),
                max_neighbors=self.max_neighbors,
                max_cells=self.max_cells,
                max_alternatives=self.max_alternatives,
                max_density_cells=self.max_density_cells,
                bypass_cache=self.bypass_cache,
                allow_degraded=self.allow_degraded,
                search_area=_area_message(self.area),
            )
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"an option is out of its range: {error}", Reason.OPTION_INVALID) from error


def _area_message(area: Circle | Box | str | None) -> types_pb2.SearchArea | None:
    if area is None:
        return None
    if isinstance(area, str):
        return types_pb2.SearchArea(country=area.upper())
    from geofix.area import Circle

    if isinstance(area, Circle):
        center = LatLng(latitude=area.lat, longitude=area.lon)
        return types_pb2.SearchArea(circle=types_pb2.Circle(center=center, radius_m=area.radius_m))
    return types_pb2.SearchArea(
        box=types_pb2.Box(
            southwest=LatLng(latitude=area.south, longitude=area.west),
            northeast=LatLng(latitude=area.north, longitude=area.east),
        )
    )


def locate_request(source: types_pb2.ImageSource, options: LocateOptions) -> pb.LocateRequest:
    """A request for one image."""
    return pb.LocateRequest(source=source, options=options.message())


def batch_request(sources: Iterable[types_pb2.ImageSource], options: LocateOptions) -> pb.BatchLocateRequest:
    """A request for several images."""
    return pb.BatchLocateRequest(sources=sources, options=options.message())


def batch_error(result: pb.BatchLocateResult) -> GeofixError:
    """The error of one image of a batch."""
    known = error_from_status(result.error)
    return known if known is not None else GeofixError(result.error.message)


def error_of_call(error: grpc.RpcError, address: str) -> GeofixError:
    """The exception behind a failed call of the gateway at `address`."""
    service = f"geofix at {address}"
    known = error_from_rpc(error, service)
    # Only where the platform itself said nothing: an ErrorInfo of SERVICE_UNAVAILABLE names the service behind the gateway.
    if isinstance(known, Unavailable) and known.metadata.get("service") == service:
        return Unavailable(
            f"{service} cannot be reached: {_remedy(error.details() or '')}", known.reason, known.metadata
        )
    return known


def _remedy(details: str) -> str:
    words = details.lower()
    if any(word in words for word in ("certificate", "handshake", "ssl", "verification")):
        return (
            f"TLS failed ({details}); check the CA, the client certificate and the name, and that the server speaks TLS"
        )
    if "socket closed" in words or "connection reset" in words:
        return "it closed the connection; if it speaks TLS, so must the client"
    return "start it with `geofix up`, or name another server"
