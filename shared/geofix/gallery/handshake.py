"""Why TLS to a database fails: pymilvus says only that the server is not there."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 3.0


def tls_fault(uri: str, ca_file: Path | None) -> str | None:
    """What is wrong with the TLS of a server that can be reached; None: nothing that a handshake shows.

    Args:
        uri: the server's address.
        ca_file: certificates (PEM) that its own is checked against; None: the system's.
    """
    parts = urlsplit(uri)
    if parts.scheme == "unix" or not parts.hostname:
        return None
    secure = ca_file is not None or parts.scheme == "https"
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError:
        return f"{ca_file} holds no certificate in PEM form: check GEOFIX_MILVUS_CA_FILE"
    if not secure:
        context = ssl._create_unverified_context()  # noqa: S323 - nothing is sent
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 19530), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return (
                None if secure else "it asks for TLS: set GEOFIX_MILVUS_CA_FILE, or write https:// in GEOFIX_MILVUS_URI"
            )
    except ssl.SSLCertVerificationError as error:
        vouches = ca_file or "the system"
        return f"its certificate is not one that {vouches} vouches for ({error.verify_message}): check GEOFIX_MILVUS_CA_FILE"
    except ssl.SSLError:
        plain_only = "it does not speak TLS: leave GEOFIX_MILVUS_CA_FILE away, and write http:// in GEOFIX_MILVUS_URI"
        return plain_only if secure else None
    except OSError:
        return None
