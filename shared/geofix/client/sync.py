"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import grpc

from geofix.channel import channel_options
from geofix.client.location import Location, ServiceInfo, read_info, read_location
from geofix.client.requests import (
    DEFAULT_ADDRESS,
    MAX_MESSAGE_BYTES,
    LocateOptions,
    batch_error,
    batch_request,
    error_of_call,
    feature_request,
    image_request,
)
from geofix.errors import GeofixError
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc


class Client:
    """Asks a geofix gateway where images were taken. May be shared by threads.

        with Client() as client:
            place = client.locate(Path("photo.jpg").read_bytes())
            print(place.lat, place.lon, place.radius_m(0.9))

    Calls that never reached a server (UNAVAILABLE) are tried again, 3 times in all; nothing else is.

    Args:
        address: host:port of the gateway, or dns:///name:port for all addresses of a name.
        timeout_s: seconds that a call may take, its retries included.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, timeout_s: float = 10) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=channel_options(MAX_MESSAGE_BYTES))
        self._stub = rpc.GeolocationServiceStub(self._channel)

    def locate(
        self, data: bytes, options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> Location:
        """Where an image was taken, from the bytes of its JPEG, PNG or WebP file.

        Raises:
            GeofixError: InvalidInput for an image that cannot be read or is over a limit (`reason` and `metadata` say which),
                Unavailable for a service that is down, DeadlineExceeded, and the rest of the tree.
        """
        return self._locate(image_request(data, options), timeout_s)

    def locate_feature(
        self, feature: bytes, options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> Location:
        """The same from the backbone's feature (little-endian float32), so that no picture leaves the caller's premises.

        Raises:
            GeofixError: as `locate`.
        """
        return self._locate(feature_request(feature, options), timeout_s)

    def locate_batch(
        self, images: Iterable[bytes], options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> list[Location | GeofixError]:
        """Several images at once, all on one gallery version: for each its answer, or the error that it had.

        Raises:
            GeofixError: the batch as a whole was refused.
        """
        try:
            response = self._stub.BatchLocate(batch_request(images, options), timeout=self._timeout(timeout_s))
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from error
        return [read_location(r.response) if r.HasField("response") else batch_error(r) for r in response.results]

    def info(self, *, timeout_s: float | None = None) -> ServiceInfo:
        """What the deployment serves.

        Raises:
            GeofixError: as `locate`.
        """
        try:
            return read_info(self._stub.GetServiceInfo(pb.GetServiceInfoRequest(), timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from error

    def close(self) -> None:
        """Close the channel; calls in flight end with an error."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _timeout(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else timeout_s

    def _locate(self, request: pb.LocateRequest, timeout_s: float | None) -> Location:
        try:
            return read_location(self._stub.Locate(request, timeout=self._timeout(timeout_s)))
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from error
