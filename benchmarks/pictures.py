"""Images that benchmarks send: the samples at a given size, each one different."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

from PIL import Image, ImageEnhance

SAMPLES = Path(__file__).parents[1] / "samples"


def jpegs(count: int, megapixels: float = 2.0) -> list[bytes]:
    """`count` different JPEG files of `megapixels` million pixels, 4:3, quality 90: the samples, by turns, in other light."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    made = []
    for number, path in zip(range(count), itertools.cycle(sorted(SAMPLES.glob("*.jpg"))), strict=False):
        with Image.open(path) as sample:
            resized = sample.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        ImageEnhance.Brightness(resized).enhance(1 + 0.002 * (number % 50)).save(buffer, "JPEG", quality=90)
        made.append(buffer.getvalue())
    return made
