"""How the web service proves to the gateway who it is: its certificate, and a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from geofix.client import Tls
from geofix.tls import TlsFiles
from geofix.watched import Watched, read_secret


def tls_to_gateway(files: TlsFiles) -> Tls | None:
    """TLS of the client; None where no authority is named. The files are read once, at the start.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not belong together.
    """
    if files.ca is None:
        return None
    files.read()  # a clear word about what is wrong with them
    return Tls(ca=files.ca, certificate=files.cert, key=files.key)


def gateway_token(file: Path | None) -> Callable[[], str] | None:
    """The token as of a moment ago; None where no file is named.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """
    if file is None:
        return None
    return Watched("GEOFIX_GATEWAY_TOKEN_FILE", [file], lambda: read_secret(file, "GEOFIX_GATEWAY_TOKEN_FILE")).get
