"""Small pictures of neighbours: drawn, of crops; of users' own images asked of retrieval where the gallery keeps them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
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
MOST = 100
"""What one call may ask for."""
_TIMEOUT_S = 1.0


class Thumbnails:
    """Asks retrieval at an address.

    Args:
        address: host:port of retrieval; empty: there are no thumbnails but those of crops.
        peer: for TLS; None: plain text.
    """

    def __init__(self, address: str, peer: PeerCredentials | None = None) -> None:
        self._channel = open_channel(address, peer=peer) if address else None
        self._stub: rpc.RetrievalServiceAsyncStub | None = (
            rpc.RetrievalServiceStub(self._channel) if self._channel is not None else None
        )
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def look(self, found: Location) -> None:
        """Get those of an answer's neighbours, so that it can say which there are. A failure means none: they are extras."""
        ids = [n.id for n in found.neighbors if not n.picture.startswith("crop:")]
        await self._get(found.gallery_version, [i for i in ids if (found.gallery_version, i) not in self._kept])

    def path(self, gallery_version: str, neighbor: Neighbor) -> str | None:
        """Where this server has a small picture of a neighbour, as far as was looked, or None."""
        if (gallery_version, neighbor.id) in self._kept:
            return f"/v1/thumbnails/gallery/{quote(gallery_version)}/{quote(neighbor.id)}"
        return crop_path(neighbor.picture)

    async def jpeg(self, gallery_version: str, image_id: str) -> bytes | None:
        """The JPEG of an image's thumbnail, or None."""
        if (gallery_version, image_id) not in self._kept:
            await self._get(gallery_version, [image_id])
        return self._kept.get((gallery_version, image_id))

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    async def _get(self, gallery_version: str, ids: Sequence[str]) -> None:
        if self._stub is None or not gallery_version or not ids:
            return
        request = pb.GetThumbnailsRequest(gallery_version=gallery_version, ids=ids[:MOST])
        try:
            response = await self._stub.GetThumbnails(request, timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return
        for thumbnail in response.thumbnails:
            self._kept[(gallery_version, thumbnail.id)] = thumbnail.jpeg
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
