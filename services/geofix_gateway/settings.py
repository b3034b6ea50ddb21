"""The gateway's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from geofix.access import AccessSettings
from geofix.settings import ServiceSettings


class GatewaySettings(ServiceSettings, AccessSettings):
    """Settings of the gateway service."""

    classifier_addr: str = Field(min_length=1, description="host:port of the classifier, or dns:///name:port")
    embedder_addr: str = Field(min_length=1, description="host:port of the embedder, or dns:///name:port")
    retrieval_addr: str = Field(min_length=1, description="host:port of retrieval, or dns:///name:port")
    redis_url: str = Field(
        pattern=r"^(redis|rediss|unix)://",
        description="Redis or Valkey for cached answers. Where it does not answer, answers are computed",
    )
    redis_password_file: Path | None = Field(
        None,
        description=(
            "file with the password of Redis, in place of one in the URL; read again when it changes, and used from the "
            "next connection on"
        ),
    )
    cache_ttl_s: int = Field(
        3600,
        ge=1,
        description=(
            "longest life of a cached answer; up to a tenth less, at random, so that what came together does not go "
            "together"
        ),
    )
    cache_timeout_s: float = Field(
        0.01,
        gt=0,
        description=(
            "time that the cache is given to answer; then it is a miss. After three in a row it is left alone for a "
            "while. `geofix up` sets 0.1, for there the cache shares its cores with the networks"
        ),
    )
    quota_per_minute: int = Field(
        0,
        ge=0,
        description="images a minute that each caller may ask about, cached answers too, counted in Redis; 0: any number",
    )
    quota_fail_open: bool = Field(
        True, description="whether calls are answered while Redis cannot count them; false: they are refused"
    )
    off_file: Path | None = Field(
        None,
        description="while this file exists, nothing is located, nor answered from the cache: the operator's switch",
    )
    denied_areas_file: Path | None = Field(
        None,
        description=(
            "file of areas about which nothing is answered, a line each: `lat,lon,km`, `south,west,north,east` or a "
            "country's code; read again when it changes"
        ),
    )
    batch_concurrency: int = Field(8, ge=1, description="images of one BatchLocate that are worked on at the same time")
    deadline_margin_s: float = Field(
        0.05,
        ge=0,
        description=(
            "kept of a client's deadline for the gateway's own answer (at most a tenth of what is left); a service "
            "behind it gets the rest"
        ),
    )
    gallery_poll_s: float = Field(
        2.0, gt=0, description="pause between looks at which gallery version is live, seconds"
    )
