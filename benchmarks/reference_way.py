"""The published reference's way of answering: torch, one image after another, one process; what `against_bare.py` compares with.

EfficientNet-B4 of `efficientnet_pytorch` in float32 on all cores, Pillow decodes and resizes the short side to 300 px with its
bilinear filter, the best cell's gallery rows are compared in torch, DBSCAN of scikit-learn with the haversine metric groups the
best ten. Weights are the random ones of `b4.py`, so it computes what the bundle made there does.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import DBSCAN

from b4 import FEATURE_DIM, PREPROCESSING, SIZE, modules
from geofix.bundle import Bundle
from geofix.geo import EARTH_RADIUS_KM, xyz_to_latlon
from geofix.local import ExactGallery
from loops import serve

BEST, EPS_KM = 10, 1.0


class Reference:
    """Locates images with a bundle of `b4.py`.

    Args:
        bundle: whose cells and gallery are used; its size is the networks'.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        if manifest.feature_dim != FEATURE_DIM:
            raise SystemExit(f"{bundle.directory} is no bundle of benchmarks/b4.py")
        self._backbone, self._head, self._retrieval = modules(manifest.cell_count, manifest.embedding_dim)
        gallery = ExactGallery(bundle)
        lat, lon = xyz_to_latlon(gallery.xyz)
        self._places = np.radians(np.stack([lat, lon], axis=1))
        self._embeddings = torch.from_numpy(gallery.embedding)
        self._rows = [np.flatnonzero(gallery.cell_id == cell) for cell in range(manifest.cell_count)]
        self._mean, self._std = (
            torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std)
        )

    @torch.inference_mode()
    def locate(self, image: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
        """Latitude and longitude in radians, shape (2,); None where the best cell has no gallery image."""
        with Image.open(io.BytesIO(image)) as opened:
            pixels = opened.convert("RGB")
        scale = SIZE / min(pixels.size)
        size = (round(pixels.width * scale), round(pixels.height * scale))
        array = np.asarray(pixels.resize(size, Image.Resampling.BILINEAR), np.float32) / 255
        tensor = (torch.from_numpy(array).permute(2, 0, 1) - self._mean) / self._std
        feature = self._backbone(tensor[None])
        log_weights, _ = self._head(feature)
        rows = self._rows[int(log_weights[0].argmax())]
        if not len(rows):
            return None
        similarity = self._embeddings[rows] @ self._retrieval(feature)[0]
        best = rows[similarity.topk(min(BEST, len(rows))).indices.numpy()]
        places = self._places[best]
        labels = DBSCAN(eps=EPS_KM / EARTH_RADIUS_KM, min_samples=1, metric="haversine").fit_predict(places)
        estimate: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = places[
            labels == np.bincount(labels).argmax()
        ].mean(axis=0)
        return estimate


def main() -> None:
    """Be the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--megapixels", type=float, default=2.0)
    options = parser.parse_args()
    reference = Reference(Bundle.load(options.bundle))
    serve(lambda _threads: reference.locate, options.images, options.megapixels)


if __name__ == "__main__":
    main()
