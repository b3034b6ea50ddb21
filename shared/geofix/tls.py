"""TLS and mutual TLS of the services: one certificate a service, with which it serves and calls, read again when it is rotated.

gRPC asks a server for its certificate at each handshake, so a rotation holds from the next connection on. A channel keeps the
certificate that it was made with: `geofix.channel` makes a new one (`PeerCredentials.generation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc

from geofix.errors import ConfigurationError
from geofix.telemetry.metrics import CERTIFICATE_EXPIRY
from geofix.watched import Watched, read_bytes

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

CERT, KEY, CA = "GEOFIX_TLS_CERT_FILE", "GEOFIX_TLS_KEY_FILE", "GEOFIX_TLS_CA_FILE"


@dataclass(frozen=True)
class Material:
    """What the files held: PEM bytes, each None where there is no file, and when the certificate ends (seconds since 1970)."""

    chain: bytes | None
    key: bytes | None
    authorities: bytes | None
    not_after: float


@dataclass(frozen=True)
class TlsFiles:
    """The files of a service's TLS.

    Attributes:
        cert: its certificate chain; None: it serves plain text.
        key: the private key.
        ca: authorities. It calls other services by TLS, and takes only certificates of theirs.
        require_client: whether it also asks who calls for a certificate of theirs.
    """

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    require_client: bool = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> TlsFiles:
        """As the variables of a service say; for who stands beside it (probes, the command)."""
        cert, key, ca = (Path(value) if (value := environment.get(name)) else None for name in (CERT, KEY, CA))
        return cls(cert, key, ca)

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError(f"{CERT} and {KEY} go together: set both or neither")

    def read(self) -> Material:
        """Read and check all of them.

        Raises:
            ConfigurationError: one cannot be read or is no PEM; the key is not the certificate's; the certificate has expired.
        """
        chain = read_bytes(self.cert, CERT) if self.cert else None
        key = read_bytes(self.key, KEY) if self.key else None
        authorities = read_bytes(self.ca, CA) if self.ca else None
        if authorities is not None:
            _certificates(authorities, f"{CA}: {self.ca}")
        not_after = _check_pair(chain, key, self) if chain is not None and key is not None else float("inf")
        return Material(chain, key, authorities, not_after)

    def watch(self) -> Watched[Material]:
        """The material, read again when a file changes."""
        return Watched(CERT if self.cert else CA, [path for path in (self.cert, self.key, self.ca) if path], self.read)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials | None:
    """What a server listens with; None for plain text.

    Raises:
        ConfigurationError: as `TlsFiles.read`.
    """
    if files.cert is None:
        return None
    watched = files.watch()
    mutual = files.ca is not None and files.require_client
    CERTIFICATE_EXPIRY.follow(lambda: watched.get().not_after)
    served = watched.get()

    def current() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        now = watched.get()
        if now is served:
            return None
        served = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", current),  # gRPC takes None too: as before
        require_client_authentication=mutual,
    )


class PeerCredentials:
    """With what a service calls others.

    Raises:
        ConfigurationError: as `TlsFiles.read`.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._watched = files.watch()
        self._material: Material | None = None
        self._credentials: grpc.ChannelCredentials

    def get(self) -> grpc.ChannelCredentials:
        """The credentials as of now: the same object until a file changes."""
        material = self._watched.get()
        if material is not self._material:
            self._material = material
            self._credentials = grpc.ssl_channel_credentials(material.authorities, material.key, material.chain)
        return self._credentials


def peer_credentials(files: TlsFiles) -> PeerCredentials | None:
    """With what to call the other services; None for plain text."""
    return PeerCredentials(files) if files.ca is not None else None


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    assert material.key is not None
    assert material.chain is not None
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.authorities)


def _check_pair(chain: bytes, key: bytes, files: TlsFiles) -> float:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    leaf = _certificates(chain, f"{CERT}: {files.cert}")[0]
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Not the error's text: it may quote the key.
        raise ConfigurationError(f"{KEY}: {files.key} is no private key in PEM form without a password") from error
    public = [
        each.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for each in (leaf.public_key(), private.public_key())
    ]
    if public[0] != public[1]:
        raise ConfigurationError(f"{KEY}: {files.key} is not the key of the certificate {files.cert}")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        raise ConfigurationError(f"{CERT}: {files.cert} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    return leaf.not_valid_after_utc.timestamp()


def _certificates(data: bytes, where: str) -> list[Certificate]:
    try:
        from cryptography.x509 import load_pem_x509_certificates
    except ImportError as error:
        raise ConfigurationError("TLS needs the package cryptography: pip install 'geofix[service]'") from error
    try:
        return load_pem_x509_certificates(data)
    except ValueError as error:
        raise ConfigurationError(f"{where} holds no certificate in PEM form") from error
