"""From the published files of Search within Cell, which the user supplies, to a bundle: networks, components, gallery.

The published cells are not in the files, only their components; so a cell here has no S2 outline, and a gallery image belongs to
the component of the highest density at its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geofix import bundle as files
from geofix.bundle import Bundle, check_new, write_manifest
from geofix.cells import Cells
from geofix.decision import DecisionRule
from geofix.errors import ConfigurationError, InvalidInput
from geofix.geo import FloatArray, latlon_to_xyz
from geofix.images import Preprocessing
from geofix_training.engine.loop import Progress
from geofix_training.gallery_file import GalleryFile
from geofix_training.heads import RetrievalModule
from geofix_training.imported import Imported, export_networks
from geofix_training.published import SIZE, Published, read_published

PREPROCESSING = Preprocessing(
    size=SIZE, fit="short_side", resample="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""As published: the short side to 300 pixels with Pillow's bilinear filter, no crop, ImageNet's mean and deviation."""
CHUNK = 4096
"""Gallery rows read, embedded and written at a time: 29 MB of features."""


def import_swc(
    backbone: Path, mvmf: Path, rrm: Path, gallery: Path | None, out: Path, progress: Progress, name: str = "swc"
) -> Imported:
    """Write a bundle to `out`; without `gallery` its gallery is empty, and images are added to it later.

    Args:
        backbone: `efficientnet_backbone.pt`.
        mvmf: `mvmf_head.pt`.
        rrm: `rrm_head.pt`.
        gallery: `back_coll_features.hdf5`, with `features` (n, d) and `labels` (n, 2), lat and lon in degrees.
        out: a directory that does not exist or is empty.
        progress: told of gallery rows done and in all.
        name: the bundle's.

    Raises:
        InvalidInput: a file is not what it should be, or `out` holds something; nothing is overwritten.
        ConfigurationError: a package of the extra `swc` is missing.
    """
    check_new(out)
    published = read_published(backbone, mvmf, rrm)
    source = _Features(gallery, published.classifier.weight.shape[1]) if gallery is not None else None
    out.mkdir(parents=True, exist_ok=True)
    export_networks(
        out,
        published.backbone,
        published.classifier,
        published.embedder,
        height=SIZE,
        width=SIZE + 20,
        feature_dim=published.classifier.weight.shape[1],
    )
    count = len(published.kappa)
    cells = Cells(
        ((),) * count, latlon_to_xyz(published.lat, published.lon), published.kappa, np.zeros(count, np.int64)
    )
    images, repeated = _write_gallery(out / files.GALLERY, source, published.embedder, cells, progress)
    Cells(cells.s2_tokens, cells.xyz, cells.kappa, images).write(out / files.CELLS)
    (out / files.MODEL_CARD).write_text(_card(published, int(images.sum()), gallery))
    write_manifest(
        out,
        name=name,
        license="Apache-2.0",
        description="The published Search within Cell (EfficientNet-B4), imported from its authors' weights.",
        preprocessing=PREPROCESSING,
        feature_dim=published.classifier.weight.shape[1],
        embedding_dim=published.classifier.weight.shape[1],
        cell_count=count,
        decision=DecisionRule(),
    )
    return Imported(Bundle.load(out), int(images.sum()), repeated)


class _Features:
    """The published gallery file, read in chunks.

    Raises:
        InvalidInput: it is not there, not HDF5, or its arrays are not what they should be.
        ConfigurationError: `h5py` is not installed.
    """

    def __init__(self, path: Path, dim: int) -> None:
        try:
            import h5py
        except ImportError as error:
            raise ConfigurationError("the published gallery needs h5py: pip install 'geofix[swc]'") from error
        if not path.is_file():
            raise InvalidInput(f"there is no file {path}")
        try:
            self._file: Any = h5py.File(path, "r")
        except OSError as error:
            raise InvalidInput(f"{path} is not an HDF5 file, or it is damaged") from error
        for name, width in (("features", dim), ("labels", 2)):
            found = self._file[name].shape if name in self._file else None
            if found is None or len(found) != 2 or found[1] != width:
                raise InvalidInput(f"{path}: {name} must be an array of (images, {width}), and is {found or 'missing'}")
        if len(self._file["features"]) != len(self._file["labels"]):
            raise InvalidInput(f"{path}: features and labels are not of one length")
        self._path = path

    def __len__(self) -> int:
        return len(self._file["features"])

    def chunks(self) -> Iterator[tuple[NDArray[np.float32], FloatArray, FloatArray]]:
        """Features (c, d) and places in degrees, (c,), in order."""
        for start in range(0, len(self), CHUNK):
            feature = self._file["features"][start : start + CHUNK].astype(np.float32)
            lat, lon = self._file["labels"][start : start + CHUNK].astype(float).T
            bad = ~(np.isfinite(feature).all(axis=1) & (np.abs(lat) <= 90) & (np.abs(lon) <= 180))
            if bad.any():
                raise InvalidInput(
                    f"{self._path}: row {start + int(bad.argmax())} has a value that is not finite or a place that is not on "
                    "Earth (labels are lat, lon in degrees)"
                )
            yield feature, lat, lon


def _write_gallery(
    path: Path, source: _Features | None, embedder: RetrievalModule, cells: Cells, progress: Progress
) -> tuple[NDArray[np.int64], int]:
    """Write `gallery.parquet`; how many images each cell got, and how many rows were repeats."""
    done = 0
    with GalleryFile(path, embedder.norm.normalized_shape[0], cells) as gallery:
        for feature, lat, lon in source.chunks() if source is not None else ():
            keep = gallery.new(feature)
            with torch.no_grad():
                embedding = embedder(torch.from_numpy(feature[keep])).numpy()
            gallery.write(keep, embedding, lat[keep], lon[keep], [""] * len(keep), "")
            done += len(feature)
            progress(done, len(source) if source is not None else 0)
    return gallery.images, gallery.repeated


def _card(published: Published, images: int, gallery: Path | None) -> str:
    count, held = len(published.kappa), f"{images:,} images" if gallery is not None else "none: add your own images"
    return f"""# The published Search within Cell

EfficientNet-B4, a mixture of von Mises-Fisher distributions over {count:,} cells of the Earth and a residual
retrieval module, imported from the weights that their authors trained on photographs from Flickr. Gallery: {held}.

Its answers carry no radius (UNCALIBRATED) and refuse no picture: no held-out photographs came with the weights to fit either on.
It must not be used to decide anything about a person; RESPONSIBLE_USE.md of geofix says more.
"""
