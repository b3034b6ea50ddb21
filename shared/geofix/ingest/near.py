"""Near-duplicates: images whose perceptual hashes differ in a few of 64 bits."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

DEFAULT_BITS = 4
CAPACITY = 1_000_000
"""Hashes that are remembered: 8 MB. Of more images, the oldest are forgotten."""


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that change little with size, compression and brightness: the DCT hash of `imagehash`."""
    bits = imagehash.phash(image).hash.ravel()
    return int.from_bytes(np.packbits(bits).tobytes())


class NearDuplicates:
    """Remembers hashes with the names of their images."""

    def __init__(self, bits: int, capacity: int = CAPACITY) -> None:
        self._bits = bits
        self._hashes = np.zeros(capacity, np.uint64)
        self._names: dict[int, str] = {}
        self._size = 0

    def find(self, phash: int) -> str | None:
        """The name of a remembered image whose hash differs in no more bits than allowed, or None."""
        known = self._hashes[: min(self._size, len(self._hashes))]
        near = np.flatnonzero(np.bitwise_count(known ^ np.uint64(phash)) <= self._bits)
        return self._names[int(near[0])] if len(near) else None

    def remember(self, phash: int, name: str) -> None:
        """Remember an image."""
        slot = self._size % len(self._hashes)
        self._hashes[slot] = phash
        self._names[slot] = name
        self._size += 1
