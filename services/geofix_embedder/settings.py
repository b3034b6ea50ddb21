"""The embedder's settings."""

from __future__ import annotations

from pydantic import Field

from geofix.settings import ModelSettings


class EmbedderSettings(ModelSettings):
    """Settings of the embedder service."""

    embed_images: bool = Field(False, description="take images beside features, with a backbone of its own")
