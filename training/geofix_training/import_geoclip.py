"""From the package `geoclip` and a CLIP, which the user supplies, to a bundle.

GeoCLIP has no cells: it compares an image with each place of a gallery, and a softmax over all of them is its answer. Here the
gallery's places are partitioned, and a cell's weight is that softmax, summed over its places.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geofix import bundle as files
from geofix.bundle import Bundle, check_new, write_manifest
from geofix.cells import Cells
from geofix.decision import DecisionRule
from geofix.errors import InvalidInput
from geofix.images import Preprocessing
from geofix_training.clip import MEAN, STD, read_clip
from geofix_training.engine.loop import Progress
from geofix_training.export import store_small
from geofix_training.gallery_file import GalleryFile
from geofix_training.geoclip import CLIP_DIM, EMBEDDING_DIM, GeoClip, ImageHead, read_geoclip
from geofix_training.imported import Imported, export_networks
from geofix_training.partition import StopRule, make_cells, split

CELLS = 2000
"""As many as make some 50 places each of the published gallery."""
_NOTHING = -1e4
"""A logit whose exponential is 0 beside any other's."""


class CellSums(nn.Module):
    """Feature to log cell weights: the log softmax over a gallery of places, summed in each cell. Every domain score is 0.

    Args:
        head: features (n, d) to unit embeddings (n, e).
        gallery: unit embeddings of g places, (g, e).
        scale: of the cosines before the softmax.
        members: for each cell the rows of its places; every place is in one.
    """

    rows: Tensor

    def __init__(
        self, head: ImageHead, gallery: NDArray[np.float32], scale: float, members: tuple[NDArray[np.int64], ...]
    ) -> None:
        super().__init__()
        self.head, self.scale = head, scale
        self.gallery = nn.Parameter(torch.from_numpy(np.ascontiguousarray(gallery.T)))
        self.shape = (-1, len(members), max(len(rows) for rows in members))
        padded = np.full(self.shape[1:], len(gallery), np.int64)
        for cell, rows in enumerate(members):
            padded[cell, : len(rows)] = rows
        self.register_buffer("rows", torch.from_numpy(padded.ravel()))

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) to log cell weights (n, cells) and domain scores (n,)."""
        logits = self.scale * (self.head(feature) @ self.gallery)
        inside = functional.pad(logits, (0, 1), value=_NOTHING).index_select(1, self.rows).reshape(self.shape)
        return functional.log_softmax(inside.logsumexp(dim=2), dim=1), 0 * feature[:, 0]


def import_geoclip(
    package: Path, clip: Path, out: Path, progress: Progress, cells: int = CELLS, name: str = "geoclip"
) -> Imported:
    """Write a bundle to `out`.

    Args:
        package: the directory of the package `geoclip`, or the one that holds it.
        clip: the state dict of CLIP ViT-L/14 or of its image tower, as `read_clip` takes it.
        out: a directory that does not exist or is empty.
        progress: told of the gallery's places done and in all.
        cells: the partition stops at so many; those without a place are dropped.
        name: the bundle's.

    Raises:
        InvalidInput: a file is not what it should be, or `out` holds something; nothing is overwritten.
    """
    check_new(out)
    published = read_geoclip(package)
    tower = read_clip(clip)
    if tower.dim != CLIP_DIM:
        raise InvalidInput(
            f"{clip}: this CLIP gives {tower.dim} values, GeoCLIP's image head takes {CLIP_DIM}: bring CLIP ViT-L/14"
        )
    gallery = published.gallery(progress)
    partition = split(published.lat, published.lon, StopRule(max_images=1, max_cells=cells), min_images=1)
    found = make_cells(partition, published.lat, published.lon)
    classifier = CellSums(published.head, gallery, published.scale, partition.members)
    out.mkdir(parents=True, exist_ok=True)
    export_networks(out, tower, classifier, published.head, height=tower.size, width=tower.size, feature_dim=CLIP_DIM)
    store_small(out / files.CLASSIFIER, only="gallery")
    images, repeated = _write_gallery(out / files.GALLERY, published, gallery, found)
    Cells(found.s2_tokens, found.xyz, found.kappa, images).write(out / files.CELLS)
    (out / files.MODEL_CARD).write_text(_card(len(found), int(images.sum())))
    write_manifest(
        out,
        name=name,
        license="MIT",
        description="GeoCLIP (CLIP ViT-L/14 and a location encoder), imported from its authors' weights.",
        preprocessing=Preprocessing(
            size=tower.size, fit="center_crop", resample="bicubic", mean=MEAN, std=STD, jpeg="full"
        ),
        feature_dim=CLIP_DIM,
        embedding_dim=EMBEDDING_DIM,
        cell_count=len(found),
        # One neighbour of the whole gallery, the strategy `retrieval`, is GeoCLIP's own answer.
        decision=DecisionRule(temperature=1 / published.scale, swc_k=1),
    )
    return Imported(Bundle.load(out), int(images.sum()), repeated)


def _write_gallery(
    path: Path, published: GeoClip, gallery: NDArray[np.float32], cells: Cells
) -> tuple[NDArray[np.int64], int]:
    """Write `gallery.parquet`; how many places each cell got, and how many rows were repeats."""
    with GalleryFile(path, EMBEDDING_DIM, cells) as file:
        keep = file.new(np.stack([published.lat, published.lon], axis=1).astype(np.float32))
        file.write(
            keep,
            gallery[keep],
            published.lat[keep],
            published.lon[keep],
            [""] * len(keep),
            "GeoCLIP's gallery of places",
        )
    return file.images, file.repeated


def _card(cells: int, images: int) -> str:
    return f"""# GeoCLIP

CLIP ViT-L/14 with the image head, the location encoder and the gallery of the package `geoclip` (Vivanco Cepeda, Nayak, Shah:
GeoCLIP, NeurIPS 2023; MIT, copyright 2024 Vicente Vivanco), trained on photographs from Flickr. Its {images:,} places are in
{cells:,} cells; a cell's weight is GeoCLIP's softmax over the places, summed in it.

Its answers carry no radius (UNCALIBRATED) and refuse no picture: no held-out photographs came with the weights to fit either on.
It must not be used to decide anything about a person; RESPONSIBLE_USE.md of geofix says more.
"""
