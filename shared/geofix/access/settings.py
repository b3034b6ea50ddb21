"""Settings of the services that ask for tokens."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from geofix.settings import Settings


class AccessSettings(Settings):
    """Tokens and the audit log. Without a file of tokens or keys everyone may call."""

    tokens_file: Path | None = Field(
        None,
        description="file of `name:SHA-256 of a token[:roles]` lines, as `geofix token` prints them; read again when it changes",
    )
    jwks_file: Path | None = Field(
        None,
        description="public keys (JWKS) of an identity provider whose tokens are taken; read again when it changes",
    )
    jwt_issuer: str = Field("", description="`iss` of the provider's tokens; needed with the keys")
    jwt_audience: str = Field("", description="`aud` of tokens that are meant for this platform; needed with the keys")
    jwt_leeway_s: float = Field(30.0, ge=0, le=600, description="by how much the provider's clock may differ from ours")
    audit: bool = Field(
        False,
        description="whether to log a line for each call: who, which method, how it ended and how long it took; never the image",
    )
