"""The retrieval service's settings."""

from __future__ import annotations

from pydantic import Field, SecretStr

from geofix.settings import ServiceSettings


class RetrievalSettings(ServiceSettings):
    """Settings of the retrieval service; of the bundle it needs bundle.json alone."""

    milvus_uri: str = Field(
        min_length=1,
        description="a Milvus server, such as http://milvus:19530, or an existing Milvus Lite directory",
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="the Milvus server's token, or user:password")
    search_threads: int = Field(4, ge=1, le=64, description="searches that run at the same time")
