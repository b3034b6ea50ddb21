"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from geofix.client.connection import Connection, Tls, Token
from geofix.client.location import Location, ServiceInfo
from geofix.client.ordered import map_ordered
from geofix.client.reading import read_batch, read_info, read_location
from geofix.client.requests import DEFAULT_ADDRESS, LocateOptions, batch_request, error_of_call, locate_request
from geofix.client.retry import Attempts, RetryBudget, RetryPolicy, stated_pause_s
from geofix.client.sources import Bytes, feature_bytes, image_source
from geofix.errors import GeofixError
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1 import types_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geofix.client.sources import Source

T = TypeVar("T")


class Client:
    """Asks a geofix gateway where images were taken. May be shared by threads.

        with Client() as client:
            place = client.locate("photo.jpg")
            print(place.lat, place.lon, place.radius_m(0.9))

    A call that met a server that is down or full is tried again within its time (`RetryPolicy`); nothing else is.

    Args:
        address: host:port of the gateway, or dns:///name:port for all addresses of a name.
        timeout_s: seconds that a call may take, its retries included.
        tls: TLS to the gateway; None for plain text.
        token: a bearer token for every call, or a function that returns the one to use.
        plaintext_token: send it without TLS to another machine too, where something else keeps it secret (a mesh).
        retry: when failed calls are tried again.
        downsize: make large pictures smaller before they are sent (needs Pillow; docs/client.md says what it changes).

    Raises:
        ConfigurationError: a certificate cannot be read, or a token would travel unprotected.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        timeout_s: float = 10,
        *,
        tls: Tls | None = None,
        token: Token | None = None,
        plaintext_token: bool = False,
        retry: RetryPolicy = RetryPolicy(),
        downsize: bool = True,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._connection = Connection(address, tls, token, plaintext_token)
        self._retry, self._budget = retry, RetryBudget(retry.budget)
        self._downsize = downsize
        options = self._connection.options()
        self._channel = (
            grpc.insecure_channel(address, options=options)
            if tls is None
            else grpc.secure_channel(address, tls.credentials(), options=options)
        )
        self._stub = rpc.GeolocationServiceStub(self._channel)

    def locate(
        self, source: Source, options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> Location:
        """Where an image was taken.

        Args:
            source: the path of a JPEG, PNG or WebP file; the bytes of one; a PIL image; pixels as uint8, shape (h, w, 3);
                or the backbone's feature as float32, shape (d,), so that no picture leaves the caller's premises.
            options: how to answer.
            timeout_s: seconds that the call may take, instead of the client's.

        Raises:
            GeofixError: InvalidInput for an image that cannot be read or is over a limit (`reason` and `metadata` say which),
                Unavailable for a service that is down, DeadlineExceeded, and the rest of the tree.
        """
        return self._locate(image_source(source, self._downsize), options, timeout_s)

    def locate_feature(
        self,
        feature: Bytes | NDArray[Any],
        options: LocateOptions = LocateOptions(),
        *,
        timeout_s: float | None = None,
    ) -> Location:
        """The same from the backbone's feature: float32, shape (d,), or its little-endian bytes.

        Raises:
            GeofixError: as `locate`.
        """
        return self._locate(types_pb2.ImageSource(feature=feature_bytes(feature)), options, timeout_s)

    def locate_batch(
        self, sources: Iterable[Source], options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> list[Location | GeofixError]:
        """Several images in one call, all on one gallery version: for each its answer, or the error that it had.

        Raises:
            GeofixError: the batch as a whole was refused, or a source cannot be read here.
        """
        request = batch_request((image_source(source, self._downsize) for source in sources), options)
        return read_batch(self._call(self._stub.BatchLocate, request, timeout_s))

    def locate_many(
        self,
        sources: Iterable[Source],
        options: LocateOptions = LocateOptions(),
        *,
        concurrency: int = 4,
        timeout_s: float | None = None,
    ) -> Iterator[Location | GeofixError]:
        """Any number of images, `concurrency` calls at a time: for each its answer, or the error that it had, in their order.

        Sources are taken from the iterable as they are needed, and never more than 4 · concurrency are held.
        """

        def one(source: Source) -> Location | GeofixError:
            try:
                return self.locate(source, options, timeout_s=timeout_s)
            except GeofixError as error:
                return error

        return map_ordered(sources, one, concurrency)

    def info(self, *, timeout_s: float | None = None) -> ServiceInfo:
        """What the deployment serves.

        Raises:
            GeofixError: as `locate`.
        """
        return read_info(self._call(self._stub.GetServiceInfo, pb.GetServiceInfoRequest(), timeout_s))

    def close(self) -> None:
        """Close the channel; calls in flight end with an error."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _locate(self, source: types_pb2.ImageSource, options: LocateOptions, timeout_s: float | None) -> Location:
        return read_location(self._call(self._stub.Locate, locate_request(source, options), timeout_s))

    def _call(self, method: Callable[..., T], request: object, timeout_s: float | None) -> T:
        attempts = Attempts(self._retry, self._budget, self.timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                response = method(request, timeout=attempts.left_s(), metadata=self._connection.metadata())
            except grpc.RpcError as error:
                known = error_of_call(error, self.address)
                pause = attempts.pause_after(known, stated_pause_s(error))
                if pause is None:
                    raise known from error
                time.sleep(pause)
            else:
                attempts.succeeded()
                return response
