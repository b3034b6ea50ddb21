"""The web service's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from geofix.settings import Settings
from geofix.tls import TlsFiles


class WebSettings(Settings):
    """Settings of the web service."""

    listen: str = Field(pattern=r"^.+:\d{1,5}$", description="host:port to serve HTTP on, such as 127.0.0.1:8080")
    gateway_addr: str = Field(min_length=1, description="host:port of the gateway, or dns:///name:port")
    thumbnails_addr: str = Field(
        "", description="host:port of retrieval, asked for thumbnails of gallery images; empty: not asked"
    )
    tls_ca_file: Path | None = Field(
        None, description="authorities (PEM) of the platform's certificates: gateway and retrieval are called by TLS"
    )
    tls_cert_file: Path | None = Field(None, description="the certificate that it calls them with (PEM)")
    tls_key_file: Path | None = Field(None, description="the private key of that certificate (PEM)")
    gateway_token_file: Path | None = Field(
        None,
        description=(
            "file with a token for the gateway, where it asks for one; read again when it changes. It needs TLS to the "
            "gateway"
        ),
    )
    max_image_bytes: int = Field(20 * 1024 * 1024, ge=1, description="most bytes of one image")
    max_message_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="most bytes of one message, either way")
    max_batch: int = Field(32, ge=1, le=1024, description="most images of one batch")
    max_uploads: int = Field(
        16, ge=1, description="requests that may hold images at the same time; further ones get 429"
    )
    upload_timeout_s: float = Field(30.0, gt=0, description="time that a client has to send its body, seconds")
    default_deadline_s: float = Field(10.0, gt=0, description="time that the gateway has to answer, seconds")
    drain_s: float = Field(10.0, ge=0, description="time for requests in flight after SIGTERM, seconds")
    cors_origins: str = Field(
        "",
        pattern=r"^$|^\*$|^https?://[^\s,/]+(,https?://[^\s,/]+)*$",
        description="origins whose pages may call the API, by commas, or `*`; empty: none but its own",
    )
    samples: str = Field("", description="directory of sample images with a truth.csv, offered on the page")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe log level")

    @property
    def tls(self) -> TlsFiles:
        """The files of its TLS to the services behind it.

        Raises:
            ConfigurationError: one of certificate and key is missing.
        """
        return TlsFiles(self.tls_cert_file, self.tls_key_file, self.tls_ca_file)

    @property
    def origins(self) -> list[str]:
        """The origins, in order."""
        return [origin for origin in self.cors_origins.split(",") if origin]

    @property
    def samples_directory(self) -> Path | None:
        """The directory of samples, where one was named."""
        return Path(self.samples) if self.samples else None
