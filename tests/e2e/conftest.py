"""One platform with a small bundle for all tests of the command, and photos to ask it about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle_factory import grey_image, image_of, make_bundle
from command import FORMATS, PLACES, Ran, geofix
from geofix.bundle import Bundle
from geofix.platform import Platform
from secure_platform import SecurePlatform
from secure_platform import secure_platform as running_securely


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Platform(bundle.directory, tmp_path_factory.mktemp("data") / "geofix") as platform:
        yield platform.address


@pytest.fixture(scope="session")
def secure_platform(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecurePlatform]:
    with running_securely(bundle, tmp_path_factory.mktemp("secure")) as running:
        yield running


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, a grey one, and a truth.csv of them all."""
    directory = tmp_path_factory.mktemp("photos")
    for name, place in PLACES.items():
        (directory / name).write_bytes(image_of(*place, FORMATS[Path(name).suffix]))
    (directory / "grey.png").write_bytes(grey_image())
    rows = [f"{name},{lat},{lon}" for name, (lat, lon) in PLACES.items()]
    (directory / "truth.csv").write_text("\n".join(["file,lat,lon", *rows, "grey.png,0,0"]) + "\n")
    return directory


@pytest.fixture(scope="session")
def located(server: str, photos: Path) -> Ran:
    """The photos, the grey one last, as `geofix locate --json` answers them."""
    return geofix("locate", "--json", "--server", server, *(photos / name for name in [*PLACES, "grey.png"]))
