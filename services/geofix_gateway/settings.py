"""The gateway's settings."""

from __future__ import annotations

from pydantic import Field

from geofix.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of the gateway service."""

    classifier_addr: str = Field(min_length=1, description="host:port of the classifier, or dns:///name:port")
    embedder_addr: str = Field(min_length=1, description="host:port of the embedder, or dns:///name:port")
    retrieval_addr: str = Field(min_length=1, description="host:port of retrieval, or dns:///name:port")
    redis_url: str = Field(
        pattern=r"^(redis|rediss|unix)://",
        description="Redis or Valkey that answers are cached in, such as redis://host:6379/0",
    )
    cache_ttl_s: int = Field(3600, ge=1, description="life of a cached answer, seconds")
    cache_timeout_s: float = Field(0.01, gt=0, description="time the cache is given to answer, seconds")
    batch_concurrency: int = Field(8, ge=1, description="images of one BatchLocate that are worked on at the same time")
    deadline_margin_s: float = Field(
        0.05,
        ge=0,
        description="kept of a client's deadline for the gateway's own answer, seconds; at most a tenth of what is left",
    )
    gallery_poll_s: float = Field(
        2.0, gt=0, description="pause between looks at which gallery version is live, seconds"
    )
