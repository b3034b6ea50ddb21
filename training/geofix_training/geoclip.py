"""GeoCLIP (Vivanco Cepeda et al., NeurIPS 2023): what the package `geoclip` ships, and the networks that it fills.

The package is read as files and never imported: its code asks for more than its weights need.
"""

from __future__ import annotations

import csv
import importlib.util
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geofix.errors import ConfigurationError, InvalidInput
from geofix.geo import FloatArray
from geofix_training.engine.loop import Progress
from geofix_training.weights import fill, read_scalar

CLIP_DIM, EMBEDDING_DIM = 768, 512
_CAPSULES, _FREQUENCIES, _HIDDEN = 3, 256, 1024
_GET_IT = "pip install --no-deps geoclip, or name with --package the directory of the package or of its unpacked wheel"
_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796
"""The polynomial of the Equal Earth projection (Šavrič, Patterson, Jenny 2018)."""
_SCALE = 66.50336
"""Of the map, over 180: half the equator is 1; to the digits and in the order of the package's own arithmetic, since the finest
frequencies tell the next digit."""
_CHUNK = 4096


class ImageHead(nn.Module):
    """CLIP's embeddings to unit embeddings beside those of places."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(CLIP_DIM, CLIP_DIM), nn.ReLU(), nn.Linear(CLIP_DIM, EMBEDDING_DIM))

    def forward(self, feature: Tensor) -> Tensor:
        """Features (n, 768) to unit embeddings (n, 512)."""
        return functional.normalize(self.mlp(feature), dim=1)


class _FourierFeatures(nn.Module):
    """Random Fourier features (Tancik et al. 2020): cos and sin of 2π times projections on fixed random directions."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(_FREQUENCIES, 2), requires_grad=False)

    def forward(self, place: Tensor) -> Tensor:
        angle = 2 * math.pi * place @ self.b.T
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class _Capsule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (2 * _FREQUENCIES, _HIDDEN, _HIDDEN, _HIDDEN)
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.capsule = nn.Sequential(_FourierFeatures(), *layers)
        self.head = nn.Sequential(nn.Linear(_HIDDEN, EMBEDDING_DIM))

    def forward(self, place: Tensor) -> Tensor:
        out: Tensor = self.head(self.capsule(place))
        return out


class LocationEncoder(nn.Module):
    """Places to embeddings: three capsules over one map, from coarse to fine frequencies, summed (section 3.1 of the paper)."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(_CAPSULES):
            self.add_module(f"LocEnc{number}", _Capsule())

    def forward(self, degrees: Tensor) -> Tensor:
        """Places (n, 2), lat and lon in degrees, to unit embeddings (n, 512)."""
        place = equal_earth(degrees)
        return functional.normalize(sum(capsule(place) for capsule in self.children()), dim=1)


def equal_earth(degrees: Tensor) -> Tensor:
    """Places (n, 2), lat and lon in degrees, to x and y of the Equal Earth projection, (n, 2); the equator is 2 long."""
    lat, lon = degrees.deg2rad().unbind(dim=1)
    theta = (math.sqrt(3) / 2 * lat.sin()).asin()
    slope = 9 * _A4 * theta**8 + 7 * _A3 * theta**6 + 3 * _A2 * theta**2 + _A1
    x = 2 * math.sqrt(3) * lon * theta.cos() / (3 * slope)
    y = _A4 * theta**9 + _A3 * theta**7 + _A2 * theta**3 + _A1 * theta
    return torch.stack([x, y], dim=1) * _SCALE / 180


@dataclass(frozen=True)
class GeoClip:
    """What the package ships, its networks in eval mode.

    Attributes:
        head: CLIP's embeddings to unit embeddings.
        location: places to unit embeddings.
        scale: what cosines are multiplied by before the softmax.
        lat: the gallery's places, degrees, shape (n,).
        lon: the same.
    """

    head: ImageHead
    location: LocationEncoder
    scale: float
    lat: FloatArray
    lon: FloatArray

    def gallery(self, progress: Progress) -> NDArray[np.float32]:
        """Unit embeddings of the gallery's places, (n, 512); `progress` is told of places done and in all."""
        # float32 as in the package: the finest frequencies tell it from the places' own digits
        places = torch.from_numpy(np.stack([self.lat, self.lon], axis=1).astype(np.float32))
        parts = []
        for start in range(0, len(places), _CHUNK):
            with torch.no_grad():
                parts.append(self.location(places[start : start + _CHUNK]).numpy())
            progress(min(start + _CHUNK, len(places)), len(places))
        return np.concatenate(parts)


def installed_package() -> Path:
    """Where `geoclip` is installed.

    Raises:
        ConfigurationError: it is not.
    """
    found = importlib.util.find_spec("geoclip")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(f"the package geoclip is not installed: {_GET_IT}")
    return Path(found.submodule_search_locations[0])


def read_geoclip(package: Path) -> GeoClip:
    """Read the weights and the gallery of the package in a directory.

    Raises:
        InvalidInput: it is not there, or a file of it is not what it should be; the message names file and key.
    """
    model = next((path for path in (package / "model", package / "geoclip/model") if path.is_dir()), None)
    if model is None:
        raise InvalidInput(f"{package} is not the package geoclip: it has no directory model; {_GET_IT}")
    head, location, weights = ImageHead(), LocationEncoder(), model / "weights"
    fill(head.mlp, weights / "image_encoder_mlp_weights.pth")
    fill(location, weights / "location_encoder_weights.pth")
    scale = float(np.exp(read_scalar(weights / "logit_scale_weights.pth")))
    lat, lon = _read_places(model / "gps_gallery/coordinates_100K.csv")
    return GeoClip(head.eval(), location.eval(), scale, lat, lon)


def _read_places(path: Path) -> tuple[FloatArray, FloatArray]:
    places = []
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in ("LAT", "LON") if name not in (rows.fieldnames or ())]
            if missing:
                raise InvalidInput(f"{path} has no column {' and '.join(missing)}")
            for row in rows:
                lat, lon = _degrees(row["LAT"]), _degrees(row["LON"])
                if not (abs(lat) <= 90 and abs(lon) <= 180):
                    raise InvalidInput(
                        f"{path}: line {rows.line_num} is no place on Earth: {row['LAT']}, {row['LON']} "
                        "(LAT and LON in degrees)"
                    )
                places.append((lat, lon))
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {path}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} is no CSV file") from error
    if not places:
        raise InvalidInput(f"{path} holds no place")
    lat, lon = np.array(places).T
    return lat, lon


def _degrees(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
