"""Photos from the web: within limits, and never from inside the network. Against real servers on the loopback interface."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from geofix.cli.fetch import Address, FetchLimits, fetch, is_public
from geofix.errors import DeadlineExceeded, InvalidInput


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/to/"))
            self.end_headers()
        elif path == "/loop":
            self.send_response(301)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif path == "/photo?size=1":
            self.answer(b"photo", 5)
        elif path == "/large":
            self.answer(b"x" * 3000, None)
        elif path == "/says-large":
            self.answer(b"x", 10**9)
        elif path == "/cut":
            self.answer(b"half", 8)
        elif path == "/drip":
            for _ in range(100):
                self.wfile.write(b"H")
                time.sleep(0.05)
        else:
            self.send_error(404)

    def answer(self, body: bytes, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that went away is what some tests are about."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def here(address: Address) -> bool:
    return str(address) == "127.0.0.1"


SMALL = FetchLimits(max_bytes=2000, timeout_s=5)


def test_a_photo_is_fetched_and_redirects_are_followed(web: str) -> None:
    for url in (f"{web}/photo?size=1", f"{web}/to//photo?size=1", f"{web}/to/{web}/photo?size=1"):
        assert fetch(url, SMALL, here) == b"photo"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent", "answered 404"),
        ("/large", "over 2,000 bytes"),
        ("/says-large", "over 2,000 bytes"),
        ("/cut", "ended before the whole file"),
        ("/loop", "redirects more than 5 times"),
        ("/to/http://127.0.0.2:1/", "127.0.0.2, which is not a public address"),
        ("/to/file:///etc/passwd", "only http and https"),
        ("/to/http://user:secret@127.0.0.1/", "user name or a password"),  # pragma: allowlist secret
    ],
)
def test_what_is_refused_says_why(web: str, path: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        fetch(web + path, SMALL, here)


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://2130706433/", "http://[::1]/", "http://169.254.169.254/latest/"]
)
def test_inside_the_network_nothing_is_fetched(url: str) -> None:
    with pytest.raises(InvalidInput, match="not a public address"):
        fetch(url)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http:///photo", "http://example.org:port/", "http://exa mple.org/"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput):
        fetch(url)


def test_a_server_that_drips_is_cut_off_in_time(web: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
        fetch(f"{web}/drip", FetchLimits(timeout_s=0.5), here)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1", False),
        ("fd00::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
