"""A bundle from trained parts: models, cells, gallery, calibration and card in one directory, the manifest last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix import bundle as files
from geofix.bundle import Bundle, write_manifest
from geofix.calibration import Calibration
from geofix.cells import Cells
from geofix_training.config import OrbitConfig
from geofix_training.features import PREPROCESSING, Crops
from geofix_training.gallery_file import GalleryFile


def write_gallery(path: Path, crops: Crops, embedding: NDArray[np.float32], cells: Cells, attribution: str) -> None:
    """Write `gallery.parquet`: one row a crop, embeddings (n, e) as float16; of equal crops the first is kept."""
    with GalleryFile(path, embedding.shape[1], cells) as file:
        keep = file.new(crops.raw)
        lat, lon = np.round(crops.lat[keep], 4), np.round(crops.lon[keep], 4)
        pictures = [
            f"crop:lat={a:.4f}&lon={o:.4f}&footprint_km={footprint:.0f}&rotation_deg=0"
            for a, o, footprint in zip(lat, lon, crops.footprint_km[keep], strict=True)
        ]
        file.write(keep, embedding[keep], lat, lon, pictures, attribution)


def finish(
    directory: Path, config: OrbitConfig, cells: Cells, calibration: Calibration | None, card: str | None
) -> Bundle:
    """Write cells, calibration, card and manifest beside the models and the gallery, and load the result.

    Raises:
        MismatchError: what was written does not hold together.
    """
    cells.write(directory / files.CELLS)
    rule = config.decision
    if calibration is not None:
        rule = calibration.rule
        (directory / files.CALIBRATION).write_text(calibration.model_dump_json(indent=1) + "\n")
    if card is not None:
        (directory / files.MODEL_CARD).write_text(card)
    write_manifest(
        directory,
        name=config.name,
        license=config.license,
        description=config.description,
        preprocessing=PREPROCESSING,
        feature_dim=config.feature_dim + 1,
        embedding_dim=config.embedder.embedding_dim,
        cell_count=len(cells),
        decision=rule,
    )
    return Bundle.load(directory)
