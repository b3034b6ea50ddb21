"""What happens to a picture between the Earth and the user: light, colour, haze, cloud, blur, noise, compression.

The ranges are wide on purpose: a model that has seen one rendition of the Earth must also place another.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from geofix_training.raster import Pixels

_GREY = np.full((3, 3), 1 / 3, np.float32)


def damage(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A damaged copy of RGB pixels, shape (size, size, 3)."""
    image = pixels.astype(np.float32) / 255.0
    if rng.random() < 0.4:
        image = _another_rendition(image, rng)
    image = _light(image, rng)
    if rng.random() < 0.4:
        image = _haze(image, rng)
    if rng.random() < 0.35:
        image = _cloud(image, rng)
    if rng.random() < 0.45:
        image = _soften(image, rng)
    if rng.random() < 0.6:
        image = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.003, 0.03))
    out = np.asarray(np.clip(image * 255.0 + 0.5, 0, 255), np.uint8)
    return compress(out, rng) if rng.random() < 0.8 else out


def _another_rendition(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Other colours for the same ground: channels mixed, saturation and tone curve changed."""
    mix = np.eye(3, dtype=np.float32) + rng.normal(0, 0.06, (3, 3)).astype(np.float32)
    saturation = rng.uniform(0.4, 1.5)
    matrix = saturation * mix + (1 - saturation) * _GREY
    image = np.clip(image @ matrix.T + rng.normal(0, 0.03, 3).astype(np.float32), 0, 1)
    return np.asarray(image ** np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.1, 3)).astype(np.float32), np.float32)


def _light(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    exposure = np.exp(rng.uniform(np.log(0.35), np.log(1.7)))
    cast = np.exp(rng.normal(0, 0.12, 3))
    image = image * (exposure * cast).astype(np.float32)
    contrast = np.exp(rng.uniform(np.log(0.6), np.log(1.5)))
    mean = image.mean()
    return np.asarray((image - mean) * contrast + mean, np.float32)


def _haze(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    strength = rng.uniform(0.05, 0.5)
    colour = (rng.uniform(0.45, 0.85) + rng.normal(0, 0.04, 3)).astype(np.float32)
    return np.asarray(image * (1 - strength) + colour * strength, np.float32)


def _cloud(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    size = image.shape[0]
    field = np.zeros((size, size), np.float32)
    for cells, weight in ((int(rng.integers(3, 9)), 1.0), (int(rng.integers(12, 24)), 0.5), (40, 0.2)):
        coarse = rng.normal(0, weight, (cells, cells)).astype(np.float32)
        field += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    edge = np.quantile(field, 1 - rng.uniform(0.02, 0.3))
    opacity = np.clip((field - edge) / rng.uniform(0.05, 0.5), 0, 1)[..., None] * rng.uniform(0.6, 1.0)
    return np.asarray(image * (1 - opacity) + rng.uniform(0.75, 1.0) * opacity, np.float32)


def _soften(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    size = image.shape[0]
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0)), np.float32)
    small = int(size / rng.uniform(1.3, 4.0))
    coarse = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def compress(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """What JPEG of a random quality leaves of RGB pixels."""
    quality = int(rng.integers(25, 96))
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return np.asarray(decoded[..., ::-1], np.uint8)
