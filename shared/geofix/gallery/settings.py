"""How Milvus is reached: settings that retrieval, the loader and `geofix gallery` share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from geofix.errors import ConfigurationError
from geofix.gallery.store import Store
from geofix.settings import Settings


class MilvusSettings(Settings):
    """Address and credentials of Milvus."""

    milvus_uri: str = Field(
        min_length=1,
        description="a Milvus server, such as http://milvus:19530, or an existing Milvus Lite directory",
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="the Milvus server's token, or user:password")
    milvus_token_file: Path | None = Field(None, description="a file that holds the token; read at every connection")
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
        token = self.milvus_token.get_secret_value()
        if self.milvus_token_file is not None:
            token = _read(self.milvus_token_file, "GEOFIX_MILVUS_TOKEN_FILE").strip()
        if self.milvus_ca_file is not None:
            _read(self.milvus_ca_file, "GEOFIX_MILVUS_CA_FILE")
        return Store(self.milvus_uri, token, ca_file=self.milvus_ca_file, create=create)


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read ({error})") from error
