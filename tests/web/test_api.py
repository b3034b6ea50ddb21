"""The JSON API as programs use it, against the whole platform."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import pytest

from geofix.client import Client
from geofix.v1.error_reason_pb2 import ErrorReason
from image_factory import encoded, pattern

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FLORIDA = (ROOT / "samples" / "florida.jpg").read_bytes()
BOUNDARY = "geofix-test-boundary"


class Answer:
    """A response, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    site: Any,
    path: str,
    body: bytes | None = None,
    content_type: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    try:
        given = {"Content-Type": content_type} if content_type else dict(headers)
        connection.request("GET" if body is None else "POST", path, body, given)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def form(*images: bytes, **fields: str) -> tuple[bytes, str]:
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [b'name="image"; filename="a"\r\nContent-Type: image/jpeg\r\n\r\n' + image for image in images]
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(start + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"


def test_a_raw_body_and_a_form_are_answered_as_grpc_answers(site: Any) -> None:
    raw = ask(site, "/v1/locate?max_cells=2&outlines=true", FLORIDA, "image/jpeg")
    formed = ask(site, "/v1/locate?max_cells=9", *form(FLORIDA, max_cells="2", outlines="true"))
    with Client(site.platform.address) as client:
        place = client.locate(FLORIDA)
    assert (raw.status, formed.status) == (200, 200)
    assert raw.headers["cache-control"] == "no-store"
    for answer in (raw.json, formed.json):
        assert (answer["lat"], answer["lon"]) == (place.lat, place.lon)
        assert {r["probability"]: r["radius_m"] for r in answer["radii"]} == dict(place.radii)
        assert [n["id"] for n in answer["neighbors"]] == [n.id for n in place.neighbors]
        assert len(answer["cells"]) == 2
        assert answer["cells"][0]["outline"]["type"] == "MultiPolygon"
        assert answer["place"].endswith("United States")


def test_clients_of_mever_can_switch(site: Any) -> None:
    best = ask(site, "/v1/locate?format=mever", FLORIDA, "image/jpeg").json["predictions"][0]
    assert set(best) == {"latitude", "longitude", "confidence", "retrieved_images"}
    assert 0 < best["confidence"] <= 1
    assert best["retrieved_images"]
    assert ask(site, "/v1/locate?format=mever", encoded(pattern(), "PNG"), "image/jpeg").json == {"predictions": []}


def test_a_batch_has_a_result_for_each(site: Any) -> None:
    results = ask(site, "/v1/batch?max_neighbors=0", *form(FLORIDA, b"no image", FLORIDA)).json["results"]
    assert [r["location"] is not None for r in results] == [True, False, True]
    assert results[1]["problem"]["reason"] == "IMAGE_UNREADABLE"
    assert results[0]["location"]["lat"] == results[2]["location"]["lat"]


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "reason"),
    [
        ("/v1/locate", b"", "image/jpeg", 400, "IMAGE_EMPTY"),
        ("/v1/locate", b"plain text", "text/plain", 400, "IMAGE_UNREADABLE"),
        ("/v1/locate", b"GIF89a\1\0\1\0", "image/gif", 415, "IMAGE_FORMAT_UNSUPPORTED"),
        ("/v1/locate?max_cells=65", FLORIDA, "image/jpeg", 400, "OPTION_INVALID"),
        ("/v1/locate?radius=3", FLORIDA, "image/jpeg", 400, "OPTION_INVALID"),
        ("/v1/locate", b"x", "multipart/form-data", 400, "IMAGE_MISSING"),
        ("/v1/locate", *form(), 400, "IMAGE_MISSING"),
        ("/v1/locate", *form(FLORIDA, FLORIDA), 400, "IMAGE_MISSING"),
        ("/v1/locate", *form(FLORIDA, strategy="guess"), 400, "OPTION_INVALID"),
        ("/v1/batch", *form(), 400, "BATCH_EMPTY"),
        ("/v1/batch", *form(*[b"x"] * 33), 413, "BATCH_TOO_LARGE"),
        ("/v1/batch", FLORIDA, "image/jpeg", 400, "IMAGE_MISSING"),
        ("/v1/locate", bytes(20 * 1024 * 1024 + 1), "image/jpeg", 413, "IMAGE_TOO_MANY_BYTES"),
    ],
)
def test_bad_input_is_a_problem_document(
    site: Any, path: str, body: bytes, kind: str, status: int, reason: str
) -> None:
    answer = ask(site, path, body, kind)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert f"ERROR_REASON_{reason}" in dict(ErrorReason.items())
    assert problem["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_is_refused_before_it_is_read(site: Any, announced: bool) -> None:
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=10)
    connection.putrequest("POST", "/v1/locate")
    connection.putheader("Content-Type", "image/jpeg")
    if announced:
        connection.putheader("Content-Length", str(60 * 1024 * 1024))
        connection.endheaders()
    else:
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        chunk = bytes(1024 * 1024)
        for _ in range(21):
            connection.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    answer = Answer(connection.getresponse())  # although the body has no end yet
    connection.close()
    assert (answer.status, answer.json["reason"]) == (413, "IMAGE_TOO_MANY_BYTES")
    assert answer.json["metadata"]["limit_bytes"] == str(20 * 1024 * 1024)


def test_what_is_served_is_told(site: Any) -> None:
    info = ask(site, "/v1/info").json
    assert info["model_version"].startswith("orbit@")
    assert info["max_image_bytes"] == 20 * 1024 * 1024
    assert ask(site, "/healthz").json == {"status": "ok"}
    assert ask(site, "/readyz").json == {"status": "ready"}
    assert {s["name"] for s in ask(site, "/v1/samples").json} == {p.name for p in (ROOT / "samples").glob("*.jpg")}


@pytest.mark.parametrize("path", ["/", "/js/main.js", "/v1/info", "/nothing", "/v1/locate"])
def test_every_response_is_guarded(site: Any, path: str) -> None:
    headers = ask(site, path, headers={"Origin": "https://elsewhere.example"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_files_are_packed_and_not_sent_twice(site: Any) -> None:
    first = ask(site, "/map/world.json", headers={"Accept-Encoding": "gzip"})
    again = ask(site, "/map/world.json", headers={"If-None-Match": first.headers["etag"]})
    assert first.headers["content-encoding"] == "gzip"
    assert (again.status, again.body) == (304, b"")
    assert ask(site, "/../pyproject.toml").status == 404
    assert ask(site, "/samples/..%2Fpyproject.toml").status == 404
    assert ask(site, "/v1/locate").status == 405


def test_schemathesis_passes(site: Any, tmp_path: Path) -> None:
    # positive_data_acceptance: bytes of any kind fit the schema of an image, which OpenAPI cannot describe closer.
    # negative_data_rejection: in a form every value is text, so a list of one value and that value are the same bytes.
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{site.url}/openapi.json"]
    options = [
        "--max-examples",
        "4",
        "--generation-deterministic",
        "--exclude-checks",
        "positive_data_acceptance,negative_data_rejection",
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
