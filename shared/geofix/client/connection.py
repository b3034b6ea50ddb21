"""How a client reaches its gateway: TLS, the token that goes with every call, and the channel's options."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from geofix.channel import channel_options
from geofix.errors import ConfigurationError

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
Token = str | Callable[[], str]
"""A bearer token, or a function that returns the one to use now: it is asked before every call."""
Pem = bytes | str | os.PathLike[str]
"""PEM text as bytes, or the path of a file that holds it."""


@dataclass(frozen=True)
class Tls:
    """TLS to the gateway; `Tls()` trusts the machine's certificate authorities.

    Attributes:
        ca: certificates of the authorities to trust instead.
        certificate: the client's certificate chain, for servers that ask for one; needs `key`.
        key: its private key.
        server_name: the name that the server's certificate must carry, where that is not the address's host.
    """

    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC takes.

        Raises:
            ConfigurationError: a file cannot be read or is not PEM, or one of certificate and key is missing.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client certificate and its key go together: give both or neither")
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca, "CA"),
            private_key=_pem(self.key, "client key"),
            certificate_chain=_pem(self.certificate, "client certificate"),
        )


@dataclass(frozen=True)
class Connection:
    """Where a gateway is and how it is reached.

    Attributes:
        address: host:port, or dns:///name:port for all addresses of a name.
        tls: None for plain text.
        token: sent as `authorization: Bearer` with every call.
        plaintext_token: send the token without TLS to another machine too, where something else keeps it secret (a mesh).
    """

    address: str
    tls: Tls | None = None
    token: Token | None = None
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and self.tls is None and not (self.plaintext_token or self.is_local):
            raise ConfigurationError(
                f"a token would travel to {self.address} readable by anyone on the way: use TLS, "
                "or say plaintext_token=True where something else encrypts the connection"
            )

    def open(self, options: Sequence[tuple[str, int | str]]) -> grpc.Channel:
        """A blocking channel with options of one's own."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, self.tls.credentials(), options=options)

    def options(self) -> list[tuple[str, int | str]]:
        """Options of the channel. Retries are the client's own: it knows the budget and the server's RetryInfo."""
        from geofix import __version__

        options = [
            *channel_options(MAX_MESSAGE_BYTES),
            ("grpc.enable_retries", 0),
            ("grpc.primary_user_agent", f"geofix-python/{__version__}"),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with a call.

        Raises:
            ConfigurationError: the token holds what a header cannot carry, such as the end of a line.
        """
        token = self.token() if callable(self.token) else self.token
        if token is None:
            return ()
        if not token or not token.isascii() or not token.isprintable():
            raise ConfigurationError("the token is empty or holds characters that a header cannot carry")
        return (("authorization", f"Bearer {token}"),)

    @property
    def is_local(self) -> bool:
        """Whether the address is one of this machine's own."""
        host = self.address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
        return self.address.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def _pem(source: Pem | None, what: str) -> bytes | None:
    if source is None:
        return None
    if isinstance(source, bytes):
        data, where = source, what
    else:
        where = f"{what} {os.fspath(source)}"
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"the {where} cannot be read: {error.strerror}") from error
    if b"-----BEGIN" not in data:
        raise ConfigurationError(f"the {where} is not in PEM form (-----BEGIN ...)")
    return data
