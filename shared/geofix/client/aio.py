"""The asyncio client: `geofix.client.sync.Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from geofix.client.connection import Connection, Tls, Token
from geofix.client.location import Location, ServiceInfo
from geofix.client.ordered import map_ordered_async
from geofix.client.reading import read_batch, read_info, read_location
from geofix.client.requests import DEFAULT_ADDRESS, LocateOptions, batch_request, error_of_call, locate_request
from geofix.client.retry import Attempts, RetryBudget, RetryPolicy, stated_pause_s
from geofix.client.sources import Bytes, feature_bytes, image_source
from geofix.errors import GeofixError
from geofix.outgoing import answer_of
from geofix.v1 import geolocation_service_pb2 as pb
from geofix.v1 import geolocation_service_pb2_grpc as rpc
from geofix.v1 import types_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geofix.client.sources import Source

T = TypeVar("T")


class AsyncClient:
    """Asks a geofix gateway where images were taken, inside a running event loop.

        async with AsyncClient() as client:
            place = await client.locate("photo.jpg")

    Args:
        address: as those of `Client`.
        timeout_s: seconds that a call may take, its retries included.
        tls: TLS to the gateway; None for plain text.
        token: a bearer token for every call, or a function that returns the one to use; it must not block.
        plaintext_token: send it without TLS to another machine too.
        retry: when failed calls are tried again.
        downsize: make large pictures smaller before they are sent.

    Raises:
        ConfigurationError: as `Client`.
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
            grpc.aio.insecure_channel(address, options=options)
            if tls is None
            else grpc.aio.secure_channel(address, tls.credentials(), options=options)
        )
        self._stub: rpc.GeolocationServiceAsyncStub = rpc.GeolocationServiceStub(self._channel)

    async def locate(
        self, source: Source, options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> Location:
        """Where an image was taken; files are read, and large pictures made smaller, in a thread.

        Raises:
            GeofixError: as `Client.locate`.
        """
        return await self._locate(await self._read(source), options, timeout_s)

    async def locate_feature(
        self,
        feature: Bytes | NDArray[Any],
        options: LocateOptions = LocateOptions(),
        *,
        timeout_s: float | None = None,
    ) -> Location:
        """The same from the backbone's feature.

        Raises:
            GeofixError: as `Client.locate`.
        """
        return await self._locate(types_pb2.ImageSource(feature=feature_bytes(feature)), options, timeout_s)

    async def locate_batch(
        self, sources: Iterable[Source], options: LocateOptions = LocateOptions(), *, timeout_s: float | None = None
    ) -> list[Location | GeofixError]:
        """Several images in one call, all on one gallery version: for each its answer, or the error that it had.

        Raises:
            GeofixError: the batch as a whole was refused, or a source cannot be read here.
        """
        request = batch_request([await self._read(source) for source in sources], options)
        return read_batch(await self._call(self._stub.BatchLocate, request, timeout_s))

    def locate_many(
        self,
        sources: Iterable[Source] | AsyncIterable[Source],
        options: LocateOptions = LocateOptions(),
        *,
        concurrency: int = 4,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Location | GeofixError]:
        """Any number of images, as `Client.locate_many`; leaving the iteration cancels the calls in flight."""

        async def one(source: Source) -> Location | GeofixError:
            try:
                return await self.locate(source, options, timeout_s=timeout_s)
            except GeofixError as error:
                return error

        return map_ordered_async(sources, one, concurrency)

    async def info(self, *, timeout_s: float | None = None) -> ServiceInfo:
        """What the deployment serves.

        Raises:
            GeofixError: as `Client.locate`.
        """
        return read_info(await self._call(self._stub.GetServiceInfo, pb.GetServiceInfoRequest(), timeout_s))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _read(self, source: Source) -> types_pb2.ImageSource:
        return await asyncio.to_thread(image_source, source, self._downsize)

    async def _locate(self, source: types_pb2.ImageSource, options: LocateOptions, timeout_s: float | None) -> Location:
        return read_location(await self._call(self._stub.Locate, locate_request(source, options), timeout_s))

    async def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:
        attempts = Attempts(self._retry, self._budget, self.timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                call = method(request, timeout=attempts.left_s(), metadata=self._connection.metadata())
                response = await answer_of(call)
            except grpc.RpcError as error:
                known = error_of_call(error, self.address)
                pause = attempts.pause_after(known, stated_pause_s(error))
                if pause is None:
                    raise known from error
                await asyncio.sleep(pause)
            else:
                attempts.succeeded()
                return response
