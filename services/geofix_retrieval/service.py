"""RetrievalService over gRPC: checks and translates, and leaves the work to `live` and `geofix.gallery`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from geofix.bundle import Bundle
from geofix.errors import GeofixError, InvalidInput, Reason
from geofix.gallery.layout import METRIC
from geofix.gallery.messages import result_message
from geofix.gallery.narrowing import Narrowing
from geofix.gallery.search import Gallery, Scope
from geofix.gallery.store import check_uri
from geofix.limits import check_batch, limits_message
from geofix.search_area import area_from_message
from geofix.server import Service
from geofix.settings import ServiceSettings
from geofix.telemetry.queues import QueueMetrics
from geofix.telemetry.stages import past_stage
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix.vectors import unpack_vector
from geofix.workers import Turnstile, WorkQueue
from geofix_retrieval.admin import GalleryAdminService
from geofix_retrieval.live import LiveGallery
from geofix_retrieval.settings import RetrievalSettings

DEFAULT_K = 10
MOST_K = 1000
MOST_CELLS = 1024
MOST_THUMBNAILS = 100
MOST_FIELDS, MOST_VALUES, MOST_NAME_BYTES = 16, 64, 256
_LOOKS = 2
"""Threads for the rare calls that block: opening a version, counting."""
_MARGIN_S = 0.05
"""Kept of a call's deadline for the answer's way back."""


class RetrievalService(Service, rpc.RetrievalServiceServicer):
    """Serves the live gallery of one bundle; never loads one.

    Raises:
        ConfigurationError: GEOFIX_MILVUS_URI names nothing.
    """

    full_name = "geofix.v1.RetrievalService"
    role = "retrieval"

    def __init__(self, settings: RetrievalSettings) -> None:
        check_uri(settings.milvus_uri)
        self._settings = settings
        bundle = Bundle.describe(settings.bundle)
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._gallery = LiveGallery(bundle, settings)
        self._searching = Turnstile("search", settings.search_concurrency, settings.max_queue)
        self._looking = WorkQueue("gallery", _LOOKS, settings.max_queue)

    def beside(self) -> Sequence[tuple[ServiceSettings, Service]]:
        """Administration, where it is asked for."""
        if not self._settings.admin_listen:
            return ()
        settings = self._settings.model_copy(update={"listen": self._settings.admin_listen, "health_listen": ""})
        return ((settings, GalleryAdminService(self._gallery)),)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_RetrievalServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Nothing is loaded: `check` connects, and goes on trying."""
        QueueMetrics("search").follow(lambda: self._searching.depth)

    async def check(self) -> None:
        """The alias exists, and its gallery belongs to the bundle."""
        await asyncio.to_thread(self._gallery.refresh)
        await self._gallery.close_replaced()

    def versions(self) -> tuple[str, str]:
        """The versions of the bundle and of the live gallery."""
        return self._bundle.version, self._gallery.live_version

    async def close(self) -> None:
        """End the threads and close the database."""
        self._looking.close()
        await self._gallery.close_searches()
        await asyncio.to_thread(self._gallery.close)

    async def Search(self, request: pb.SearchRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.SearchResponse:
        """See the proto."""
        check_batch(len(request.queries), self._settings.max_batch)
        queries = [self._checked(index, query) for index, query in enumerate(request.queries)]
        remaining = context.time_remaining()
        seconds = self._settings.default_deadline_s if remaining is None else remaining
        timeout_s = max(_MARGIN_S, min(seconds, self._settings.max_deadline_s) - _MARGIN_S)
        gallery = await self._version(request.gallery_version)
        arrived_ns = time.time_ns()
        async with self._searching:
            started = time.perf_counter()
            found = await gallery.search_batch(queries, timeout_s)
            elapsed_ms = (time.perf_counter() - started) * 1000
        name = gallery.info.name
        began_ns = past_stage("search", elapsed_ms / 1000, time.time_ns(), queries=len(queries), gallery_version=name)
        past_stage("queue", max(0, began_ns - arrived_ns) / 1e9, began_ns)
        return pb.SearchResponse(
            results=[result_message(hits) for hits in found],
            gallery_version=name,
            search_ms=elapsed_ms,
        )

    async def GetGalleryInfo(
        self, request: pb.GetGalleryInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetGalleryInfoResponse:
        """See the proto."""
        cells = self._cells("count_cell_ids", request.count_cell_ids)
        gallery = await self._version("")
        info = gallery.info
        counts = await self._looking.run(gallery.counts, cells) if cells else {}
        return pb.GetGalleryInfoResponse(
            gallery_version=info.name,
            model_version=info.model_version,
            images=info.images,
            cells=info.cells,
            embedding_dim=info.embedding_dim,
            metric=METRIC,
            partitions=info.partitions,
            limits=limits_message(self._settings),
            calibration=info.calibration,
            thumbnails=info.thumbnails,
            cell_counts=[pb.CellCount(cell_id=cell, images=counts[cell]) for cell in cells],
        )

    async def GetThumbnails(
        self, request: pb.GetThumbnailsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetThumbnailsResponse:
        """See the proto."""
        check_batch(len(request.ids), MOST_THUMBNAILS)
        gallery = await self._version(request.gallery_version)
        found = await self._looking.run(gallery.thumbnails, request.ids)
        return pb.GetThumbnailsResponse(
            thumbnails=[pb.Thumbnail(id=name, jpeg=found[name]) for name in request.ids if name in found]
        )

    async def _version(self, name: str) -> Gallery:
        opened = self._gallery.opened(name)
        return opened if opened is not None else await self._looking.run(self._gallery.version, name)

    def _checked(self, index: int, query: pb.SearchQuery) -> tuple[NDArray[np.float32], Scope]:
        try:
            if not 0 <= query.k <= MOST_K:
                raise _option("k", f"k must be 1 to {MOST_K} (0 means {DEFAULT_K}), not {query.k}")
            cells = self._cells("cell_ids", query.cell_ids)
            narrowing = _narrowing(query)
            embedding = unpack_vector(
                query.embedding, self._manifest.embedding_dim, Reason.EMBEDDING_INVALID, unit=True
            )
        except GeofixError as error:
            error.metadata["index"] = str(index)
            raise
        return embedding, Scope(cells, query.k or DEFAULT_K, narrowing)

    def _cells(self, option: str, cell_ids: Sequence[int]) -> tuple[int, ...]:
        if len(cell_ids) > MOST_CELLS:
            raise _option(option, f"{len(cell_ids)} cells; the limit is {MOST_CELLS}")
        if any(not 0 <= cell < self._manifest.cell_count for cell in cell_ids):
            raise _option(option, f"{option} must be 0 to {self._manifest.cell_count - 1}")
        return tuple(cell_ids)


def _narrowing(query: pb.SearchQuery) -> Narrowing:
    least = query.min_similarity if query.HasField("min_similarity") else -np.inf
    if query.HasField("min_similarity") and not -1 <= least <= 1:
        raise _option("min_similarity", f"min_similarity must be -1 to 1, not {least:g}")
    if len(query.fields) > MOST_FIELDS:
        raise _option("fields", f"{len(query.fields)} conditions on fields; the limit is {MOST_FIELDS}")
    for match in query.fields:
        if not 1 <= len(match.name.encode()) <= MOST_NAME_BYTES:
            raise _option("fields", f"a field's name has 1 to {MOST_NAME_BYTES} bytes")
        if not 1 <= len(match.values) <= MOST_VALUES:
            raise _option("fields", f"the field {match.name!r} needs 1 to {MOST_VALUES} values")
    return Narrowing(
        area_from_message(query.area) if query.HasField("area") else None,
        tuple((match.name, frozenset(match.values)) for match in query.fields),
        least,
    )


def _option(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, Reason.OPTION_INVALID, {"option": name})
