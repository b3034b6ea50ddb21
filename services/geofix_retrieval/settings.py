"""The retrieval service's settings."""

from __future__ import annotations

from pydantic import Field

from geofix.access import AccessSettings
from geofix.gallery.settings import MilvusSettings
from geofix.settings import ServiceSettings


class RetrievalSettings(ServiceSettings, AccessSettings, MilvusSettings):
    """Settings of the retrieval service, its tokens those of administration; of the bundle it needs bundle.json alone."""

    search_concurrency: int = Field(
        16,
        ge=1,
        le=1024,
        description="requests that Milvus is asked for at the same time; further ones wait in the queue",
    )
    admin_listen: str = Field(
        "",
        pattern=r"^(.+:\d{1,5})?$",
        description=(
            "host:port to serve `GalleryAdminService` on; empty: not at all. It changes the gallery: keep it apart. "
            "Under `geofix up` a free port on loopback"
        ),
    )
