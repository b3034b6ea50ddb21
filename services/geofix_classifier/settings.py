"""The classifier's settings."""

from __future__ import annotations

from pydantic import Field

from geofix.settings import ModelSettings


class ClassifierSettings(ModelSettings):
    """Settings of the classifier service."""

    also_embed: bool = Field(
        False,
        description="embed features too, on request: on one machine a call less, and the embedder then has little to do; "
        "`geofix up` sets true",
    )
    decode_threads: int = Field(0, ge=0, description="threads that decode images; 0 is one a core")
