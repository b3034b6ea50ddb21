"""The package `geoclip` from PyPI (MIT, 40 MB), laid once into .cache/ and never installed: its requirements are not geofix's."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from laid_out import laid_out

VERSION = "1.3.0"
GALLERY = "model/gps_gallery/coordinates_100K.csv"


def fetch() -> Path:
    """The directory of the package; gets it where it is not there yet."""
    return laid_out("geoclip", VERSION, timeout_s=120) / "package/geoclip"


def shortened(package: Path, out: Path, places: int) -> Path:
    """The package with its weights and the first `places` of its gallery, then the first of them again."""
    model = out / "geoclip/model"
    (model / "gps_gallery").mkdir(parents=True)
    (model / "weights").symlink_to(package / "model/weights")
    lines = (package / GALLERY).read_text().splitlines()
    (out / "geoclip" / GALLERY).write_text("\n".join([*lines[: places + 1], lines[1]]) + "\n")
    return out / "geoclip"


def own_location_encoder(package: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package's own module `location_encoder`, imported past its `__init__`, which asks for transformers."""
    for name, path in (("geoclip", package), ("geoclip.model", package / "model")):
        parent = types.ModuleType(name)
        parent.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, name, parent)
    return importlib.import_module("geoclip.model.location_encoder")
