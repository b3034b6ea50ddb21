"""The page's files, read once and served from memory, and the sample images that it offers."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from geofix.errors import GeofixError
from geofix.truth import read_truth

_TEXT = (".html", ".css", ".js", ".json", ".svg", ".txt")
_TYPES = {".js": "text/javascript", ".woff2": "font/woff2", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class Asset:
    """A file as it goes out."""

    body: bytes
    packed: bytes | None
    media_type: str
    etag: str

    def response(self, request: Request) -> Response:
        """The file, or 304 where the client has it; a client looks again each time, which costs one small answer."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        if self.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.body, headers=headers, media_type=self.media_type)


def read_assets() -> dict[str, Asset]:
    """Every file of the page by its path below /."""
    root = resources.files("geofix_web") / "static"
    return dict(_walk(root, ""))


def _walk(folder: Traversable, path: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            found.extend(_walk(entry, f"{name}/"))
        else:
            found.append((name, asset(entry.name, entry.read_bytes())))
    return found


def asset(name: str, body: bytes) -> Asset:
    """A file with its media type, packed where that helps."""
    suffix = Path(name).suffix
    packed = gzip.compress(body, 9, mtime=0) if suffix in _TEXT else None
    media_type = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    return Asset(body, packed, media_type, f'"{hashlib.sha256(body).hexdigest()[:16]}"')


@dataclass(frozen=True)
class Sample:
    """An image that the page offers, and where it was taken (degrees)."""

    name: str
    lat: float
    lon: float
    asset: Asset


def read_samples(directory: Path | None) -> dict[str, Sample]:
    """The images that the directory's truth.csv names, by file name; none where there is no such table."""
    if directory is None:
        return {}
    try:
        truth = read_truth(directory / "truth.csv")
    except GeofixError:
        return {}
    # Only plain names: a table must not reach out of its directory.
    places = {name: place for name, place in truth.items() if Path(name).name == name and (directory / name).is_file()}
    return {
        name: Sample(name, lat, lon, asset(name, (directory / name).read_bytes()))
        for name, (lat, lon) in places.items()
    }
