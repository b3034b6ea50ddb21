"""How Milvus is reached: settings that retrieval, the loader and `geofix gallery` share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from geofix.gallery.store import Store
from geofix.settings import Settings
from geofix.watched import Watched, read_bytes, read_secret

_TOKEN, _CA = "GEOFIX_MILVUS_TOKEN_FILE", "GEOFIX_MILVUS_CA_FILE"


class MilvusSettings(Settings):
    """Address and credentials of Milvus."""

    milvus_uri: str = Field(
        min_length=1,
        description="a Milvus server, such as http://milvus:19530, or an existing Milvus Lite directory",
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="the Milvus server's token, or user:password")
    milvus_token_file: Path | None = Field(None, description="a file that holds the token; read again when it changes")
    milvus_ca_file: Path | None = Field(
        None,
        description=(
            "certificates (PEM) that the server's own is checked against, in place of the system's; makes the "
            "connection TLS"
        ),
    )

    def open_milvus(self, *, create: bool = False) -> Store:
        """A connection; `create` makes a Milvus Lite directory that is absent.

        Raises:
            ConfigurationError: the URI names nothing, or a file cannot be read.
            Unavailable: GALLERY_UNAVAILABLE; Milvus cannot be reached, or the Lite directory is open elsewhere.
        """
        token, _ = self._credentials()
        return Store(self.milvus_uri, token, ca_file=self.milvus_ca_file, create=create)

    def watched_credentials(self) -> Watched[tuple[str, bytes]]:
        """The token and the authority's certificates: a connection is as good as those that it was made with.

        Raises:
            ConfigurationError: a file cannot be read, or is empty.
        """
        files = [path for path in (self.milvus_token_file, self.milvus_ca_file) if path is not None]
        return Watched(f"{_TOKEN}, {_CA}", files, self._credentials)

    def _credentials(self) -> tuple[str, bytes]:
        token = self.milvus_token.get_secret_value()
        if self.milvus_token_file is not None:
            token = read_secret(self.milvus_token_file, _TOKEN)
        return token, b"" if self.milvus_ca_file is None else read_bytes(self.milvus_ca_file, _CA)
