"""Pictures of nothing: what a gate must refuse, drawn by rules, so that it is fitted without a photograph.

Noise of every grain, even colours, ramps, stripes and checkers, pages of text, and windows like those of a screen.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from geofix_training.damage import compress
from geofix_training.raster import Pixels

Picture = NDArray[np.floating] | Pixels
"""RGB, 0 to 255, shape (size, size, 3)."""

_WORDS = ("quick", "brown", "fox", "lazy", "wizards", "0123", "89", "while", "pages of", "the", "text")


def foreign(size: int, rng: np.random.Generator) -> Pixels:
    """One picture of a random kind, half of them compressed, RGB, shape (size, size, 3)."""
    kinds = tuple(KINDS)
    pixels = draw(kinds[int(rng.integers(len(kinds)))], size, rng)
    return compress(pixels, rng) if rng.random() < 0.5 else pixels


def draw(kind: str, size: int, rng: np.random.Generator) -> Pixels:
    """One picture of a kind of `KINDS`, RGB, shape (size, size, 3)."""
    return np.asarray(np.clip(KINDS[kind](size, rng), 0, 255), np.uint8)


def _noise(size: int, rng: np.random.Generator) -> Picture:
    """Uniform or Gaussian noise with grains of 1 to 64 pixels, in colour or grey, of any contrast."""
    grain = int(2 ** rng.uniform(0, 6))
    shape = (-(-size // grain), -(-size // grain), 3 if rng.random() < 0.6 else 1)
    field = rng.uniform(-1.7, 1.7, shape) if rng.random() < 0.5 else rng.standard_normal(shape)
    how = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_NEAREST
    grown = cv2.resize(field.astype(np.float32), (size, size), interpolation=how).reshape(size, size, -1)
    return np.asarray(_colour(rng) + rng.uniform(15, 90) * np.broadcast_to(grown, (size, size, 3)), float)


def _even(size: int, rng: np.random.Generator) -> Picture:
    """One colour, often grey, sometimes with the grain of a sensor."""
    colour = _colour(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0, 255))
    return np.asarray(colour + rng.choice([0.0, 1.0, 3.0]) * rng.standard_normal((size, size, 3)), float)


def _ramp(size: int, rng: np.random.Generator) -> Picture:
    """From one colour to another, along a line or a circle."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle) if rng.random() < 0.7 else np.hypot(x - 0.5, y - 0.5)
    along = (along - along.min()) / np.ptp(along)
    start, end = _colour(rng), _colour(rng)
    return np.asarray(start + along[..., None] * (end - start))


def _pattern(size: int, rng: np.random.Generator) -> Picture:
    """Stripes or a checkerboard."""
    y, x = np.mgrid[:size, :size]
    period = int(rng.integers(2, size // 3))
    on = (x // period) % 2
    if rng.random() < 0.6:
        on = (on + (y // period)) % 2
    one, other = _colour(rng), _colour(rng)
    return np.where(on[..., None] == 0, one, other)


def _page(size: int, rng: np.random.Generator) -> Picture:
    """A page of text, dark on light or the other way round."""
    dark = rng.random() < 0.2
    image = np.full((size, size, 3), 20 if dark else rng.uniform(225, 255), np.uint8)
    _text(image, 0, 0, size, size, (220 if dark else 30), rng)
    return image


def _screen(size: int, rng: np.random.Generator) -> Picture:
    """Windows with bars, buttons and text."""
    image = np.full((size, size, 3), _colour(rng), np.uint8)
    for _ in range(int(rng.integers(2, 7))):
        left, top = (int(v) for v in rng.integers(0, size // 2, 2))
        width, height = (int(v) for v in rng.integers(size // 6, size, 2))
        ground = rng.choice([245.0, 255.0, 40.0])
        image[top : top + height, left : left + width] = ground
        image[top : top + 8, left : left + width] = _colour(rng)
        _text(image, left + 3, top + 12, left + width, top + height, 255 - ground, rng)
    return image


def _text(image: Pixels, left: int, top: int, right: int, bottom: int, ink: float, rng: np.random.Generator) -> None:
    scale = rng.uniform(0.25, 0.6)
    step = int(34 * scale) + 2
    for y in range(top + step, bottom, step):
        words = " ".join(rng.choice(_WORDS, max(2, (right - left) // 40)))
        at = (left + 2, y)
        cv2.putText(image, words, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (ink, ink, ink), 1, cv2.LINE_AA)


def _colour(rng: np.random.Generator) -> Picture:
    return rng.uniform(0, 255, 3)


KINDS: dict[str, Callable[[int, np.random.Generator], Picture]] = {
    "noise": _noise,
    "even colour": _even,
    "ramp": _ramp,
    "pattern": _pattern,
    "page of text": _page,
    "screen": _screen,
}
"""How each kind is drawn: (size, generator) to RGB, 0 to 255, shape (size, size, 3)."""
