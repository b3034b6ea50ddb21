"""GalleryAdminService over gRPC: checks and translates, and leaves the work to `geofix.gallery`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import numpy as np
from google.type.latlng_pb2 import LatLng

from geofix.access.callers import ADMIN
from geofix.errors import InvalidInput, Reason
from geofix.gallery.admin import DirectAdmin
from geofix.gallery.messages import image_message, result_message, row_of, version_message, version_of
from geofix.gallery.versions import Summary
from geofix.limits import check_batch
from geofix.server import Service
from geofix.v1 import gallery_admin_service_pb2 as pb
from geofix.v1 import gallery_admin_service_pb2_grpc as rpc
from geofix.vectors import unpack_vector
from geofix.workers import WorkQueue
from geofix_retrieval.live import LiveGallery

T = TypeVar("T")

MOST_IDS, MOST_IMAGES, MOST_QUERIES, DEFAULT_PAGE = 1_000, 2_000, 100, 1_000
_THREADS, _QUEUE = 4, 64


class GalleryAdminService(Service, rpc.GalleryAdminServiceServicer):
    """Administers the versions of the gallery that the retrieval service beside it serves, over its connection to Milvus."""

    full_name = "geofix.v1.GalleryAdminService"
    role = "gallery-admin"
    needed_role = ADMIN

    def __init__(self, gallery: LiveGallery) -> None:
        self._gallery = gallery
        self._working = WorkQueue("admin", _THREADS, _QUEUE)
        self._switching = WorkQueue("admin-switch", 1, _QUEUE)  # what changes which versions there are, one at a time

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer to the server."""
        rpc.add_GalleryAdminServiceServicer_to_server(self, server)

    async def start(self) -> None:
        """Nothing is loaded: the connection is the retrieval service's."""

    async def check(self) -> None:
        """Milvus can be reached; nothing needs to be live, for the first version is made here."""
        await self._working.run(self._gallery.connect)

    async def close(self) -> None:
        """End the threads."""
        self._working.close()
        self._switching.close()

    async def ListVersions(self, request: pb.ListVersionsRequest, context: _Context) -> pb.ListVersionsResponse:
        """See the proto."""
        infos, live = await self._run(lambda admin: admin.versions())
        return pb.ListVersionsResponse(versions=[version_message(info, live) for info in infos])

    async def CreateVersion(self, request: pb.CreateVersionRequest, context: _Context) -> pb.CreateVersionResponse:
        """See the proto."""
        if request.expected_images < 1:
            raise InvalidInput("expected_images must be at least 1", metadata={"option": "expected_images"})
        info = await self._switch(
            lambda admin: admin.create(request.label, request.expected_images, thumbnails=request.thumbnails)
        )
        return pb.CreateVersionResponse(version=version_message(info))

    async def BeginAdd(self, request: pb.BeginAddRequest, context: _Context) -> pb.BeginAddResponse:
        """See the proto."""
        if not (request.job.isalnum() and request.job.isascii() and len(request.job) <= 64):
            raise InvalidInput("a job is named by 1 to 64 letters and digits", metadata={"option": "job"})
        info = await self._switch(lambda admin: admin.begin_add(request.version, request.job))
        return pb.BeginAddResponse(version=version_message(info))

    async def FindImages(self, request: pb.FindImagesRequest, context: _Context) -> pb.FindImagesResponse:
        """See the proto."""
        check_batch(len(request.ids), MOST_IDS)
        found = await self._run(lambda admin: admin.find(request.version, list(request.ids)))
        return pb.FindImagesResponse(
            images=[
                pb.GalleryImage(id=name, location=LatLng(latitude=stored.lat, longitude=stored.lon), phash=stored.phash)
                for name, stored in found.items()
            ]
        )

    async def InsertImages(self, request: pb.InsertImagesRequest, context: _Context) -> pb.InsertImagesResponse:
        """See the proto."""
        check_batch(len(request.images), MOST_IMAGES)
        rows = [row_of(image) for image in request.images]
        await self._run(lambda admin: admin.insert(request.version, rows))
        return pb.InsertImagesResponse(written=len(rows))

    async def FinishAdd(self, request: pb.FinishAddRequest, context: _Context) -> pb.FinishAddResponse:
        """See the proto."""
        info = await self._switch(lambda admin: admin.finish_add(request.version, request.job, request.added))
        return pb.FinishAddResponse(version=version_message(info))

    async def ReadImages(self, request: pb.ReadImagesRequest, context: _Context) -> pb.ReadImagesResponse:
        """See the proto."""
        if not 0 <= request.limit <= MOST_IMAGES:
            raise InvalidInput(f"limit must be 0 to {MOST_IMAGES}", metadata={"option": "limit"})
        page = await self._run(
            lambda admin: admin.read(
                request.version,
                set_aside=request.set_aside,
                partition=request.partition,
                after=request.after,
                limit=request.limit or DEFAULT_PAGE,
                vectors=not request.without_vectors,
                thumbnails=request.with_thumbnails,
            )
        )
        return pb.ReadImagesResponse(
            images=[image_message(read.row) for read in page],
            damaged=[read.row.id for read in page if not read.intact],
        )

    async def SearchVersion(self, request: pb.SearchVersionRequest, context: _Context) -> pb.SearchVersionResponse:
        """See the proto."""
        check_batch(len(request.queries), MOST_QUERIES)
        dim = self._gallery.bundle.manifest.embedding_dim
        queries = [
            (
                np.asarray(unpack_vector(query.embedding, dim, Reason.EMBEDDING_INVALID, unit=True)),
                tuple(query.cell_ids),
                query.k or 10,
            )
            for query in request.queries
        ]
        found = await self._run(lambda admin: admin.search(request.version, queries))
        return pb.SearchVersionResponse(results=[result_message(hits) for hits in found])

    async def SealVersion(self, request: pb.SealVersionRequest, context: _Context) -> pb.SealVersionResponse:
        """See the proto."""
        summary = Summary(request.images, request.set_aside, request.cells, request.digest, request.set_aside_digest)
        info = await self._switch(lambda admin: admin.seal(request.version, summary))
        return pb.SealVersionResponse(version=version_message(info))

    async def RestoreVersion(self, request: pb.RestoreVersionRequest, context: _Context) -> pb.RestoreVersionResponse:
        """See the proto."""
        if request.version.state != pb.VERSION_STATE_VERIFIED:
            raise InvalidInput("only a verified version can be restored", metadata={"option": "version"})
        info = await self._switch(lambda admin: admin.restore(version_of(request.version)))
        return pb.RestoreVersionResponse(version=version_message(info))

    async def PromoteVersion(self, request: pb.PromoteVersionRequest, context: _Context) -> pb.PromoteVersionResponse:
        """See the proto."""
        info = await self._switch(lambda admin: admin.promote(request.version, request.calibration))
        await self._working.run(self._gallery.refresh)
        return pb.PromoteVersionResponse(version=version_message(info, info.name))

    async def RollbackVersion(
        self, request: pb.RollbackVersionRequest, context: _Context
    ) -> pb.RollbackVersionResponse:
        """See the proto."""
        info = await self._switch(lambda admin: admin.rollback(request.live))
        await self._working.run(self._gallery.refresh)
        return pb.RollbackVersionResponse(version=version_message(info, info.name))

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: _Context) -> pb.DeleteVersionResponse:
        """See the proto."""
        await self._switch(lambda admin: admin.delete(request.version, force=request.force))
        return pb.DeleteVersionResponse()

    async def _run(self, work: Callable[[DirectAdmin], T]) -> T:
        return await self._working.run(lambda: work(DirectAdmin(self._gallery.connect(), self._gallery.bundle)))

    async def _switch(self, work: Callable[[DirectAdmin], T]) -> T:
        return await self._switching.run(lambda: work(DirectAdmin(self._gallery.connect(), self._gallery.bundle)))


_Context = grpc.aio.ServicerContext[Any, Any]
