"""Which photographs show the same thing, by their local features: independent of the networks that are tried on them.

Local features are SIFT's (Lowe 2004, doi:10.1023/B:VISI.0000029664.99615.94) with the square roots of their descriptors
(Arandjelovic and Zisserman 2012, doi:10.1109/CVPR.2012.6248018). Two match where each is the other's nearest by far (Lowe's
ratio) and the homography that carries most of one photograph's features to their matches in the other carries this one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_FEATURES = 1000
RATIO = 0.8
TOLERANCE_PX = 4.0
FEWEST_TO_FIT = 8
SAME_VIEW_MATCHES = 10
"""Matches from which on two photographs show the same: of 9,910 pairs taken over 100 km apart, none had 8."""


@dataclass(frozen=True)
class LocalFeatures:
    """Places in pixels (n, 2) and unit descriptors (n, 128)."""

    xy: NDArray[np.float32]
    descriptors: NDArray[np.float32]


def local_features(path: Path) -> LocalFeatures:
    """The local features of an image file.

    Raises:
        ValueError: it is no image that OpenCV reads.
    """
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"{path} is no image that can be read")
    points, descriptors = cv2.SIFT.create(MOST_FEATURES).detectAndCompute(image, None)
    if descriptors is None:
        return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)
    return LocalFeatures(np.array([point.pt for point in points], np.float32), np.sqrt(shares).astype(np.float32))


def matches(one: LocalFeatures, other: LocalFeatures) -> int:
    """How many local features of two photographs match."""
    if min(len(one.xy), len(other.xy)) < FEWEST_TO_FIT:
        return 0
    similarity = one.descriptors @ other.descriptors.T
    there, back = _nearest_by_far(similarity), _nearest_by_far(similarity.T)
    mutual = np.flatnonzero((there >= 0) & (back[there] == np.arange(len(there))))
    if len(mutual) < FEWEST_TO_FIT:
        return 0
    _, kept = cv2.findHomography(
        one.xy[mutual], other.xy[there[mutual]], cv2.USAC_MAGSAC, TOLERANCE_PX, maxIters=2000, confidence=0.999
    )
    return 0 if kept is None else int(kept.sum())


def same_view(directory: Path, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """For each pair of files in a directory, whether both show the same thing."""
    files = sorted({file for pair in pairs for file in pair})
    cv2.setNumThreads(1)  # the pool has a thread for each core
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        features = dict(zip(files, pool.map(lambda file: local_features(directory / file), files), strict=True))
        found = pool.map(lambda pair: matches(features[pair[0]], features[pair[1]]), pairs)
        return [each >= SAME_VIEW_MATCHES for each in found]


def _nearest_by_far(similarity: NDArray[np.float32]) -> NDArray[np.intp]:
    """For each row of cosines the nearest column, or -1 where the second nearest is about as near."""
    two = np.argpartition(-similarity, 1, axis=1)[:, :2]
    cosines = np.take_along_axis(similarity, two, axis=1)
    nearest = two[np.arange(len(two)), cosines.argmax(axis=1)]
    squares = 2 - 2 * cosines
    return np.where(squares.min(axis=1) < RATIO**2 * squares.max(axis=1), nearest, -1)
