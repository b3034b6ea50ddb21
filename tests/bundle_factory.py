"""Makes tiny bundles whose right answers are known: the mean colour of an image is the unit vector of its place.

The preprocessing maps colours 0..255 to -1..1, so the backbone (a global average and a matrix) can hand the vector on;
the classifier weighs cells by their distance from it, and embeddings are near where places are near. A grey image has
no direction: out of domain.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import s2cell
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from geofix import bundle as files
from geofix.bundle import Bundle, write_manifest
from geofix.calibration import Calibration
from geofix.cells import Cells
from geofix.decision import DecisionRule
from geofix.geo import latlon_to_xyz, normalise, xyz_to_latlon
from geofix.images import Preprocessing
from geofix.linear import Linear
from geofix.radii import RadiusFit

_Matrix = NDArray[np.float32]

FEATURE_DIM, EMBEDDING_DIM, SIZE = 32, 16, 32
SHARPNESS = 12.0
"""Logits are this times the cosine between the image's direction and the cell's mean."""
RULE = DecisionRule(
    cells=5, k=20, temperature=0.01, mode_scale_km=500.0, refine_km=500.0, eps_km=1500.0, min_samples=1, swc_k=10
)


def make_bundle(
    directory: Path,
    *,
    seed: int = 0,
    name: str = "tiny",
    gallery_rows: int = 500,
    rule: DecisionRule = RULE,
    takes: Literal["image", "feature"] = "image",
) -> Bundle:
    """Write a bundle of 30 cells into `directory` with the real writers, and load it; one seed, one version.

    One that takes features has the identity as its backbone, and else the same networks.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    to_feature = _orthonormal_rows(rng, 3, FEATURE_DIM)
    to_embedding = _orthonormal_rows(rng, 4, EMBEDDING_DIM)
    cells = _cells()
    _write_models(directory, to_feature, to_embedding, cells)
    if takes == "feature":
        identity = helper.make_node("Identity", ["given"], ["feature"])
        shape: list[Any] = ["n", FEATURE_DIM]
        _save(directory / files.BACKBONE, [identity], {}, ("given", shape), {"feature": shape})
    cells.write(directory / files.CELLS)
    _write_gallery(directory / files.GALLERY, rng, to_embedding, cells, gallery_rows)
    _write_calibration(directory / files.CALIBRATION, rule)
    (directory / files.MODEL_CARD).write_text(f"# {name}\n\nA synthetic bundle for tests.\n")
    write_manifest(
        directory,
        name=name,
        license="Apache-2.0",
        description="synthetic: the mean colour of an image is the unit vector of its place",
        preprocessing=Preprocessing(size=SIZE, fit="squash", resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        takes=takes,
        feature_dim=FEATURE_DIM,
        embedding_dim=EMBEDDING_DIM,
        cell_count=len(cells),
        decision=rule,
    )
    return Bundle.load(directory)


def image_of(lat: float, lon: float, file_format: str = "PNG") -> bytes:
    """An image file that a tiny bundle places at (lat, lon), to within the step of its colours (about 50 km)."""
    colour = np.round((latlon_to_xyz(lat, lon) + 1) * 127.5).astype(int)
    return _encode(tuple(int(c) for c in colour), file_format)


def grey_image(file_format: str = "PNG") -> bytes:
    """An image file out of the domain of a tiny bundle: not localizable."""
    return _encode((128, 128, 128), file_format)


def _encode(colour: tuple[int, ...], file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, file_format)
    return buffer.getvalue()


def _orthonormal_rows(rng: np.random.Generator, rows: int, columns: int) -> _Matrix:
    return np.linalg.qr(rng.normal(size=(columns, rows)))[0].T.astype(np.float32)


def _cells() -> Cells:
    """The 24 S2 cells of level 1, two of them split: 30 cells that cover the Earth; found by sampling."""
    split = {s2cell.lat_lon_to_cell_id(50.0, 10.0, 1), s2cell.lat_lon_to_cell_id(-20.0, 130.0, 1)}
    found = set()
    for lat in np.arange(-88.0, 90.0, 4.0):
        for lon in np.arange(-178.0, 180.0, 4.0):
            parent = s2cell.lat_lon_to_cell_id(lat, lon, 1)
            found.add(s2cell.lat_lon_to_cell_id(lat, lon, 2) if parent in split else parent)
    ids = sorted(found)
    lats, lons = zip(*(s2cell.cell_id_to_lat_lon(i) for i in ids), strict=True)
    return Cells(
        s2_tokens=tuple((s2cell.cell_id_to_token(i),) for i in ids),
        xyz=latlon_to_xyz(np.array(lats), np.array(lons)),
        kappa=np.full(len(ids), 20.0),
        images=np.full(len(ids), 10, np.int64),
    )


def _write_models(directory: Path, to_feature: _Matrix, to_embedding: _Matrix, cells: Cells) -> None:
    mean = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["xyz"]),
    ]
    _save(
        directory / files.BACKBONE,
        [*mean, helper.make_node("MatMul", ["xyz", "to_feature"], ["feature"])],
        {"to_feature": to_feature},
        ("image", ["n", 3, "h", "w"]),
        {"feature": ["n", FEATURE_DIM]},
    )
    back = helper.make_node("MatMul", ["feature", "to_xyz"], ["xyz"])
    _save(
        directory / files.CLASSIFIER,
        [
            back,
            helper.make_node("MatMul", ["xyz", "means"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_weights"], axis=1),
            helper.make_node("ReduceSumSquare", ["xyz", "last"], ["domain_score"], keepdims=0),
        ],
        {"to_xyz": to_feature.T, "means": SHARPNESS * cells.xyz.T.astype(np.float32), "last": np.array([1])},
        ("feature", ["n", FEATURE_DIM]),
        {"log_weights": ["n", len(cells)], "domain_score": ["n"]},
    )
    _save(
        directory / files.EMBEDDER,
        [
            back,
            helper.make_node("MatMul", ["xyz", "to_embedding"], ["turned"]),
            helper.make_node("Add", ["turned", "offset"], ["shifted"]),
            helper.make_node("ReduceL2", ["shifted", "last"], ["norm"], keepdims=1),
            helper.make_node("Div", ["shifted", "norm"], ["embedding"]),
        ],
        # The offset, at right angles to every place, keeps the embedding of a grey image at norm 1.
        {
            "to_xyz": to_feature.T,
            "to_embedding": to_embedding[:3],
            "offset": 1e-3 * to_embedding[3:],
            "last": np.array([1]),
        },
        ("feature", ["n", FEATURE_DIM]),
        {"embedding": ["n", EMBEDDING_DIM]},
    )


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    source: tuple[str, list[Any]],
    outputs: dict[str, list[Any]],
) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, source[1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [
            numpy_helper.from_array(np.ascontiguousarray(v, np.int64 if v.dtype.kind == "i" else np.float32), name)
            for name, v in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_gallery(path: Path, rng: np.random.Generator, to_embedding: _Matrix, cells: Cells, rows: int) -> None:
    xyz = normalise(rng.normal(size=(rows, 3)))
    lat, lon = xyz_to_latlon(xyz)
    embedding = normalise(xyz @ to_embedding[:3] + rng.normal(scale=0.003, size=(rows, EMBEDDING_DIM)))
    flat = pa.array(embedding.astype(np.float16).ravel(), pa.float16())
    table = pa.table(
        {
            "id": [hashlib.sha256(row.tobytes()).hexdigest() for row in embedding],
            "lat": lat,
            "lon": lon,
            "cell_id": pa.array(cells.assign(lat, lon), pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, EMBEDDING_DIM),
            "picture": [
                f"crop:lat={a:.4f}&lon={o:.4f}&footprint_km=300&rotation_deg=0" for a, o in zip(lat, lon, strict=True)
            ],
            "attribution": ["synthetic"] * rows,
        }
    )
    pq.write_table(table, path, compression="zstd")


def _write_calibration(path: Path, rule: DecisionRule) -> None:
    """Radii that do not depend on the image, and a gate at half the length of a unit vector (squared: a quarter)."""
    flat = Linear(signals=("entropy",), coefficients=(0.0,), intercept=0.0)
    radius = RadiusFit(
        score=flat,
        knots=(0.0, 1.0),
        levels=(0.5, 0.8, 0.9, 0.95),
        radius_km=tuple((km, km) for km in (500.0, 800.0, 1000.0, 1500.0)),
    )
    gate = Linear(signals=("domain_score",), coefficients=(1.0,), intercept=-0.25)
    calibration = Calibration(rule=rule, radius=radius, gate=gate, queries=1000, source="synthetic")
    path.write_text(calibration.model_dump_json(indent=2) + "\n")
