"""A bundle from trained parts: models, cells, gallery, calibration and card in one directory, the manifest last."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geofix import bundle as files
from geofix.bundle import Bundle, write_manifest
from geofix.calibration import Calibration
from geofix.cells import Cells
from geofix_training.config import OrbitConfig
from geofix_training.features import PREPROCESSING, Crops


def write_gallery(path: Path, crops: Crops, embedding: NDArray[np.float32], cells: Cells, attribution: str) -> None:
    """Write `gallery.parquet`: one row a crop, embeddings (n, e) as float16; of equal crops the first is kept."""
    ids = np.array([hashlib.sha256(row.tobytes()).hexdigest()[:32] for row in crops.raw])
    _, first = np.unique(ids, return_index=True)
    keep = np.sort(first)
    pictures = [
        f"crop:lat={crops.lat[i]:.4f}&lon={crops.lon[i]:.4f}&footprint_km={crops.footprint_km[i]:.0f}&rotation_deg=0"
        for i in keep
    ]
    flat = pa.array(embedding[keep].astype(np.float16).ravel(), pa.float16())
    cell_id = cells.assign(crops.lat[keep], crops.lon[keep])
    table = pa.table(
        {
            "id": ids[keep].tolist(),
            "lat": np.round(crops.lat[keep], 4),
            "lon": np.round(crops.lon[keep], 4),
            "cell_id": pa.array(cell_id, pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, embedding.shape[1]),
            "picture": pictures,
            "attribution": [attribution] * len(keep),
        }
    )
    pq.write_table(table, path, compression="zstd", use_dictionary=["attribution"])


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
