"""The bytes behind an http or https URL, within limits, and never from inside the network that this machine stands in.

A URL is somebody else's text: it may name a metadata service, a router or a database. So the name is resolved here, every one of
its addresses must be public, the connection goes to a checked address and to no other (a second look-up could answer
differently), and every redirect goes through the same checks. Proxies of the environment are not used.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from geofix.errors import DeadlineExceeded, InvalidInput, Reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class FetchLimits:
    """What a download may cost: bytes, seconds in all, redirects."""

    max_bytes: int = 32 * 1024 * 1024
    timeout_s: float = 30.0
    max_redirects: int = 5


def is_url(word: str) -> bool:
    """Whether a word names something on the web rather than a file."""
    return word.lower().startswith(("http://", "https://"))


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and so does the IPv4 address that an IPv6 one may carry."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            carried = address.teredo[1]
        elif address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None and not is_public(carried):
            return False
    return address.is_global and not address.is_multicast


def fetch(url: str, limits: FetchLimits = FetchLimits(), allowed: Callable[[Address], bool] = is_public) -> bytes:
    """The body that a URL answers with.

    Raises:
        InvalidInput: it is no such URL, an address behind it is not `allowed`, it is too large, or the server does not have it.
        DeadlineExceeded: it took too long.
    """
    end = time.monotonic() + limits.timeout_s
    secure = False
    for _ in range(limits.max_redirects + 1):
        parts = _checked(url)
        if secure and parts.scheme != "https":
            raise _refused(f"it redirects from https to {parts.scheme}")
        secure = parts.scheme == "https"
        connection = _Pinned(parts, _resolve(parts, allowed), end)
        try:
            target = connection.ask()
            if target is None:
                return connection.body(limits.max_bytes)
            url = urljoin(url, target)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= end:
                raise DeadlineExceeded(f"it did not arrive within {limits.timeout_s:g} s") from error
            raise _refused(f"it cannot be fetched: {error or type(error).__name__}") from error
        finally:
            connection.close()
    raise _refused(f"it redirects more than {limits.max_redirects} times")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError as error:
        raise _refused(f"it is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused("only http and https URLs with a host are fetched")
    if parts.username is not None or parts.password is not None:
        raise _refused("a URL with a user name or a password is not fetched")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _refused("the URL holds characters that must be percent-encoded")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _resolve(parts: SplitResult, allowed: Callable[[Address], bool]) -> list[str]:
    """The addresses of a host, all of them allowed."""
    assert parts.hostname is not None
    try:
        found = socket.getaddrinfo(parts.hostname, _port(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _refused(f"there is no host {parts.hostname}") from error
    addresses = list(dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found))
    for address in addresses:
        if not allowed(ipaddress.ip_address(address)):
            raise _refused(
                f"{parts.hostname} is {address}, which is not a public address; --allow-private-url fetches from it too"
            )
    return addresses


class _Pinned:
    """One request to one of the addresses that were checked."""

    def __init__(self, parts: SplitResult, addresses: list[str], end: float) -> None:
        self._parts, self._addresses, self._end = parts, addresses, end
        assert parts.hostname is not None
        self._host = parts.hostname
        self._connection = http.client.HTTPConnection(self._host, _port(parts))
        self._response: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None
        # A server that sends a byte now and then would never run into the time-out of one read.
        self._watch = threading.Timer(self._left(), self._cut)
        self._watch.daemon = True

    def ask(self) -> str | None:
        """Send the request; where it redirects to, or None where the answer is here."""
        self._watch.start()
        self._connection.sock = self._connect()
        path = self._parts.path or "/"
        target = f"{path}?{self._parts.query}" if self._parts.query else path
        headers = {"User-Agent": "geofix", "Accept": "image/jpeg, image/png, image/webp", "Accept-Encoding": "identity"}
        self._connection.request("GET", target, headers=headers)
        self._response = self._connection.getresponse()
        location = self._response.getheader("Location")
        if self._response.status in _REDIRECTS and location:
            return location
        if self._response.status != http.client.OK:
            raise _refused(f"the server answered {self._response.status} {self._response.reason}")
        return None

    def body(self, max_bytes: int) -> bytes:
        """The answer's bytes."""
        assert self._response is not None
        stated = self._response.getheader("Content-Length", "")
        data = bytearray()
        while not (stated.isdigit() and int(stated) > max_bytes) and len(data) <= max_bytes:
            chunk = self._response.read1(_CHUNK)
            if not chunk:
                self._left()
                if stated.isdigit() and len(data) < int(stated):
                    raise _refused("the connection ended before the whole file was here")
                return bytes(data)
            data += chunk
        raise InvalidInput(
            f"it is over {max_bytes:,} bytes", Reason.IMAGE_TOO_MANY_BYTES, {"limit_bytes": str(max_bytes)}
        )

    def close(self) -> None:
        """End the connection."""
        self._watch.cancel()
        if self._response is not None:
            self._response.close()
        self._connection.close()
        if self._socket is not None:
            self._socket.close()

    def _connect(self) -> socket.socket:
        last: OSError | None = None
        for address in self._addresses:
            try:
                self._socket = socket.create_connection((address, _port(self._parts)), self._left())
            except OSError as error:
                last = error
                continue
            if self._parts.scheme == "https":
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
            return self._socket
        assert last is not None
        raise last

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _refused(why: str) -> InvalidInput:
    return InvalidInput(why, Reason.IMAGE_MISSING)
