"""Administration of a gallery through a retrieval service's admin listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc

from geofix.channel import channel_options
from geofix.client.connection import Connection, Tls, Token
from geofix.gallery.admin import Query
from geofix.gallery.contents import ReadRow, Stored
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.messages import hits_of, image_message, row_of, version_message, version_of
from geofix.gallery.rows import ImageRow
from geofix.gallery.search import Hit
from geofix.gallery.versions import Summary
from geofix.v1 import gallery_admin_service_pb2 as pb
from geofix.v1 import gallery_admin_service_pb2_grpc as rpc
from geofix.v1 import retrieval_service_pb2
from geofix.vectors import pack_vector
from geofix.wire import error_from_rpc

T = TypeVar("T")

TIMEOUT_S = 60.0
"""For each call; no service honours more by default."""
MOST_BYTES = 8 * 1024 * 1024
"""Of one message with images, about."""
MOST_QUERIES = 100
_MESSAGE_BYTES = 32 * 1024 * 1024


class RemoteAdmin:
    """A `GalleryAdmin` over gRPC, by TLS and with a bearer token where they are given.

    Every method raises the service's errors, and Unavailable where it cannot be reached.
    """

    def __init__(self, address: str, tls: Tls | None = None, token: Token | None = None) -> None:
        self._address = address
        self._connection = Connection(address, tls, token)
        self._channel = self._connection.open(channel_options(_MESSAGE_BYTES))
        self._stub = rpc.GalleryAdminServiceStub(self._channel)

    def versions(self) -> tuple[list[GalleryInfo], str | None]:
        """All versions, oldest first, and the live one's name."""
        found = self._call(self._stub.ListVersions, pb.ListVersionsRequest()).versions
        return [version_of(each) for each in found], next((each.name for each in found if each.live), None)

    def create(self, label: str, expected_images: int, *, thumbnails: bool = False) -> GalleryInfo:
        """An empty version."""
        request = pb.CreateVersionRequest(label=label, expected_images=expected_images, thumbnails=thumbnails)
        return version_of(self._call(self._stub.CreateVersion, request).version)

    def begin_add(self, version: str, job: str) -> GalleryInfo:
        """A run of `add` begins."""
        return version_of(self._call(self._stub.BeginAdd, pb.BeginAddRequest(version=version, job=job)).version)

    def find(self, version: str, ids: Sequence[str]) -> dict[str, Stored]:
        """Those of some images, at most 1,000, that are in a version."""
        if not ids:
            return {}
        found = self._call(self._stub.FindImages, pb.FindImagesRequest(version=version, ids=ids)).images
        return {
            image.id: Stored(
                image.location.latitude,
                image.location.longitude,
                image.phash if image.HasField("phash") else None,
            )
            for image in found
        }

    def insert(self, version: str, rows: Sequence[ImageRow]) -> None:
        """Put images into a version."""
        for batch in _batches([image_message(row) for row in rows]):
            self._call(self._stub.InsertImages, pb.InsertImagesRequest(version=version, images=batch))

    def finish_add(self, version: str, job: str, added: int = 0) -> GalleryInfo:
        """A run of `add` has finished, having added so many; without a name, all have."""
        request = pb.FinishAddRequest(version=version, job=job, added=added)
        return version_of(self._call(self._stub.FinishAdd, request).version)

    def read(
        self,
        version: str,
        *,
        set_aside: bool = False,
        partition: int = 0,
        after: str = "",
        limit: int = 1000,
        vectors: bool = True,
        thumbnails: bool = False,
    ) -> list[ReadRow]:
        """A page of rows."""
        request = pb.ReadImagesRequest(
            version=version,
            set_aside=set_aside,
            partition=partition,
            after=after,
            limit=limit,
            without_vectors=not vectors,
            with_thumbnails=thumbnails,
        )
        response = self._call(self._stub.ReadImages, request)
        damaged = set(response.damaged)
        return [ReadRow(row_of(image), image.id not in damaged) for image in response.images]

    def search(self, version: str, queries: Sequence[Query]) -> list[list[Hit]]:
        """The neighbours of each query."""
        found: list[list[Hit]] = []
        for start in range(0, len(queries), MOST_QUERIES):
            messages = [
                retrieval_service_pb2.SearchQuery(embedding=pack_vector(embedding), cell_ids=cells, k=k)
                for embedding, cells, k in queries[start : start + MOST_QUERIES]
            ]
            response = self._call(self._stub.SearchVersion, pb.SearchVersionRequest(version=version, queries=messages))
            found += [hits_of(result.neighbors) for result in response.results]
        return found

    def seal(self, version: str, summary: Summary) -> GalleryInfo:
        """Mark a version as verified."""
        request = pb.SealVersionRequest(
            version=version,
            images=summary.images,
            set_aside=summary.set_aside,
            cells=summary.cells,
            digest=summary.digest,
            set_aside_digest=summary.set_aside_digest,
        )
        return version_of(self._call(self._stub.SealVersion, request).version)

    def restore(self, wanted: GalleryInfo) -> GalleryInfo:
        """Make the version that a backup describes, or mark it as it was."""
        request = pb.RestoreVersionRequest(version=version_message(wanted))
        return version_of(self._call(self._stub.RestoreVersion, request).version)

    def promote(self, version: str, calibration: str) -> GalleryInfo:
        """Make a version live."""
        request = pb.PromoteVersionRequest(version=version, calibration=calibration)
        return version_of(self._call(self._stub.PromoteVersion, request).version)

    def rollback(self, known: str = "") -> GalleryInfo:
        """Go back to the version before the one that is known to be live."""
        return version_of(self._call(self._stub.RollbackVersion, pb.RollbackVersionRequest(live=known)).version)

    def delete(self, version: str, *, force: bool = False) -> None:
        """Delete a version."""
        self._call(self._stub.DeleteVersion, pb.DeleteVersionRequest(version=version, force=force))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _call(self, method: Callable[..., T], request: Any) -> T:
        try:
            return method(request, timeout=TIMEOUT_S, metadata=self._connection.metadata())
        except grpc.RpcError as error:
            raise error_from_rpc(error, f"the gallery's administration at {self._address}") from error


def _batches(images: Sequence[pb.GalleryImage]) -> Iterator[list[pb.GalleryImage]]:
    batch: list[pb.GalleryImage] = []
    size = 0
    for image in images:
        if batch and size + image.ByteSize() > MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += image.ByteSize()
    if batch:
        yield batch
