"""Small pictures of neighbours: drawn, of crops; of users' own images asked of retrieval where the gallery keeps them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from urllib.parse import quote

import grpc

from geofix.channel import open_channel
from geofix.client import Location, Neighbor
from geofix.tls import PeerCredentials
from geofix.v1 import retrieval_service_pb2 as pb
from geofix.v1 import retrieval_service_pb2_grpc as rpc
from geofix_web.crops import crop_path

KEPT = 1024
"""Thumbnails that are kept, some 4 KB each."""
FRESH_S = 60.0
"""Seconds that one is kept before it is asked for again: a deleted gallery's pictures are gone by then, in browsers too."""
MOST = 100
"""What one call may ask for."""
_TIMEOUT_S = 1.0


class Thumbnails:
    """Asks retrieval at an address.

    Args:
        address: host:port of retrieval; empty: there are no thumbnails but those of crops.
        peer: for TLS; None: plain text.
    """

    def __init__(
        self, address: str, peer: PeerCredentials | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = open_channel(address, peer=peer) if address else None
        self._stub: rpc.RetrievalServiceAsyncStub | None = (
            rpc.RetrievalServiceStub(self._channel) if self._channel is not None else None
        )
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()  # until when, oldest first
        self._clock = clock

    async def look(self, found: Location) -> None:
        """Get those of an answer's neighbours, so that it can say which there are. A failure means none: they are extras."""
        ids = [n.id for n in found.neighbors if not n.picture.startswith("crop:")]
        await self._get(found.gallery_version, [i for i in ids if self._fresh(found.gallery_version, i) is None])

    def path(self, gallery_version: str, neighbor: Neighbor) -> str | None:
        """Where this server has a small picture of a neighbour, as far as was looked, or None."""
        if self._fresh(gallery_version, neighbor.id) is not None:
            return f"/v1/thumbnails/gallery/{quote(gallery_version)}/{quote(neighbor.id)}"
        return crop_path(neighbor.picture)

    async def jpeg(self, gallery_version: str, image_id: str) -> bytes | None:
        """The JPEG of an image's thumbnail, or None."""
        found = self._fresh(gallery_version, image_id)
        if found is None:
            await self._get(gallery_version, [image_id])
            found = self._fresh(gallery_version, image_id)
        return found

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _fresh(self, gallery_version: str, image_id: str) -> bytes | None:
        until, jpeg = self._kept.get((gallery_version, image_id), (0.0, b""))
        return jpeg if self._clock() < until else None

    async def _get(self, gallery_version: str, ids: Sequence[str]) -> None:
        if self._stub is None or not gallery_version or not ids:
            return
        request = pb.GetThumbnailsRequest(gallery_version=gallery_version, ids=ids[:MOST])
        try:
            response = await self._stub.GetThumbnails(request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return
        until = self._clock() + FRESH_S
        for thumbnail in response.thumbnails:
            key = gallery_version, thumbnail.id
            self._kept.pop(key, None)
            self._kept[key] = until, thumbnail.jpeg
        while self._kept and (len(self._kept) > KEPT or next(iter(self._kept.values()))[0] <= self._clock()):
            self._kept.popitem(last=False)
