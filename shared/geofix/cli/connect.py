"""The options with which commands reach a server, and the client that they make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from geofix.client import Client, Tls

DEFAULT_SERVER = "127.0.0.1:50051"
_PANEL = "Connection"

ServerOption = Annotated[
    str,
    typer.Option(
        "--server", envvar="GEOFIX_SERVER", metavar="ADDR", help="host:port of the gateway.", rich_help_panel=_PANEL
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        max=3600,
        metavar="SECONDS",
        help="For each image, retries included.",
        rich_help_panel=_PANEL,
    ),
]
TlsOption = Annotated[
    bool, typer.Option("--tls", help="TLS with the machine's certificate authorities.", rich_help_panel=_PANEL)
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", envvar="GEOFIX_TLS_CA", metavar="FILE", help="TLS with these authorities.", rich_help_panel=_PANEL
    ),
]
CertOption = Annotated[
    Path | None,
    typer.Option(
        "--cert", envvar="GEOFIX_TLS_CERT", metavar="FILE", help="The client's certificate.", rich_help_panel=_PANEL
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", envvar="GEOFIX_TLS_KEY", metavar="FILE", help="Its private key.", rich_help_panel=_PANEL),
]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A bearer token for the server; default $GEOFIX_TOKEN.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def tls_of(use: bool, ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """TLS where any of its options asks for it."""
    from geofix.client import Tls

    return Tls(ca, cert, key) if use or ca or cert or key else None


def tls_from_environment() -> Tls | None:
    """TLS by the variables of the options alone, for connections that have no options of their own."""
    names = ("GEOFIX_TLS_CA", "GEOFIX_TLS_CERT", "GEOFIX_TLS_KEY")
    ca, cert, key = (Path(value) if (value := os.environ.get(name)) else None for name in names)
    return tls_of(False, ca, cert, key)


def token_of(file: Path | None) -> str | None:
    """The token in a file, or in the environment: never on the command line, where every user of the machine can read it.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    from geofix.errors import ConfigurationError

    if file is None:
        return os.environ.get("GEOFIX_TOKEN") or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the token file {file} cannot be read: {error}") from error


def open_client(
    server: str,
    timeout_s: float,
    use_tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    token: Path | None,
) -> Client:
    """A client for a command's options; what is wrong with them is usage (exit code 2)."""
    from geofix.client import Client
    from geofix.errors import ConfigurationError

    try:
        return Client(server, timeout_s, tls=tls_of(use_tls, ca, cert, key), token=token_of(token))
    except ConfigurationError as error:
        raise typer.BadParameter(error.message) from error
