"""The published weights become a bundle that says what torch says: files of the published architecture, with random weights."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from geofix.bundle import GALLERY
from geofix.errors import InvalidInput
from geofix.local import LocalEngine
from geofix_training.import_swc import import_swc
from geofix_training.imported import Imported
from geofix_training.published import Published, random_published, read_published
from image_factory import photograph

pytestmark = pytest.mark.training

CELLS, HIDDEN, ROWS = 300, 64, 50
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Files = dict[str, Path]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("published")
    backbone, mvmf, rrm = random_published(directory, CELLS, HIDDEN, seed=3)
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(ROWS, 1792)).astype(np.float32)
    feature[-1] = feature[0]  # the same image twice
    label = np.stack([rng.uniform(-80, 80, ROWS), rng.uniform(-180, 180, ROWS)], axis=1)
    with h5py.File(directory / "back_coll_features.hdf5", "w") as file:
        file["features"], file["labels"] = feature, label
    return {"backbone": backbone, "mvmf": mvmf, "rrm": rrm, "gallery": directory / "back_coll_features.hdf5"}


@pytest.fixture(scope="module")
def imported(published: Files, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return run(published, tmp_path_factory.mktemp("bundle") / "swc")


@pytest.fixture(scope="module")
def networks(published: Files) -> Published:
    return read_published(published["backbone"], published["mvmf"], published["rrm"])


def run(files: Files, out: Path) -> Imported:
    return import_swc(
        files["backbone"], files["mvmf"], files["rrm"], files.get("gallery"), out, lambda _done, _all: None
    )


def published_input(data: bytes) -> torch.Tensor:
    """The reference's transform: torchvision's Resize(300) and Normalize, written out."""
    image = Image.open(io.BytesIO(data))
    short, long = min(image.size), max(image.size)
    other = int(300 * long / short)
    size = (300, other) if image.width <= image.height else (other, 300)
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float64) / 255
    return torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32))


@pytest.mark.parametrize(("width", "height"), [(410, 820), (640, 480), (333, 333), (997, 301)])
def test_the_bundle_says_what_torch_says(imported: Imported, networks: Published, width: int, height: int) -> None:
    data = photograph(width, height)
    engine = LocalEngine(imported.bundle)
    head = engine.heads(engine.feature(data)[None])[0]
    with torch.no_grad():
        feature = networks.backbone(published_input(data))
        log_weights = networks.classifier(feature)[0][0].numpy()
        embedding = networks.embedder(feature)[0].numpy()
    assert float(feature.std()) > 0.01, "a network that answers nothing agrees with everything"
    assert np.exp(head.cells.log_weight) == pytest.approx(np.exp(log_weights[head.cells.cell_id]), abs=1e-4)
    assert head.cells.cell_id[0] == log_weights.argmax()
    assert head.embedding == pytest.approx(embedding, abs=1e-4)


def test_components_and_gallery_are_the_files(imported: Imported, published: Files, networks: Published) -> None:
    cells = imported.bundle.cells
    assert cells.kappa == pytest.approx(np.exp(torch.load(published["mvmf"])["mvmf.kappas"].numpy() + 16))
    assert imported.gallery_images == ROWS - 1
    assert imported.repeated == 1
    assert cells.images.sum() == ROWS - 1
    table = pq.read_table(imported.bundle.path(GALLERY))
    with h5py.File(published["gallery"]) as file:
        expected = networks.embedder(torch.from_numpy(file["features"][: ROWS - 1])).detach().numpy()
        assert table["lat"].to_numpy() == pytest.approx(file["labels"][: ROWS - 1, 0])
    found = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(ROWS - 1, -1)
    assert found.astype(np.float32) == pytest.approx(expected, abs=1e-3)
    engine = LocalEngine(imported.bundle)
    assert len(engine.gallery.ids) == len(set(engine.gallery.ids)) == ROWS - 1


def test_without_a_gallery_it_is_empty(published: Files, tmp_path: Path) -> None:
    done = run({name: path for name, path in published.items() if name != "gallery"}, tmp_path / "swc")
    assert pq.read_table(done.bundle.path(GALLERY)).num_rows == 0


def changed(published: Files, tmp_path: Path, name: str, change: object) -> Files:
    state = dict(torch.load(published[name]))
    assert callable(change)
    change(state)
    torch.save(state, tmp_path / "changed.pt")
    return published | {name: tmp_path / "changed.pt"}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("backbone", lambda s: s.pop("_conv_stem.weight"), "lacks _conv_stem.weight"),
        ("rrm", lambda s: s.update(extra=torch.zeros(1)), "has the unknown extra"),
        ("rrm", lambda s: s.pop("res.fc1.weight"), "no matrix res.fc1.weight"),
        ("mvmf", lambda s: s.pop("mvmf.kappas"), "lacks mvmf.kappas"),
        (
            "mvmf",
            lambda s: s.update({"mvmf.mus": s["mvmf.mus"].T}),
            r"mvmf.mus has the shape \(300, 2\), not \(2, 300\)",
        ),
        ("mvmf", lambda s: s.update({"mvmf.mus": s["mvmf.mus"].flip(0)}), "first row lat"),
    ],
)
def test_a_wrong_key_is_named(published: Files, tmp_path: Path, name: str, change: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        run(changed(published, tmp_path, name, change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkpoint_is_refused(published: Files, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(InvalidInput, match="cannot be read as tensors"):
        run(published | {"rrm": tmp_path / "text"}, tmp_path / "out")
    torch.save({"run": Path}, tmp_path / "code.pt")  # a pickle that names a class is not loaded
    with pytest.raises(InvalidInput, match="cannot be read as tensors"):
        run(published | {"mvmf": tmp_path / "code.pt"}, tmp_path / "out")
    with pytest.raises(InvalidInput, match="there is no file"):
        run(published | {"backbone": tmp_path / "none.pt"}, tmp_path / "out")
    with pytest.raises(InvalidInput, match="not an HDF5 file"):
        run(published | {"gallery": tmp_path / "text"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gallery_in_the_wrong_order_is_named(published: Files, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "swapped.hdf5", "w") as file:
        file["features"], file["labels"] = np.ones((2, 1792), np.float32), np.array([[10.0, 20.0], [120.0, 10.0]])
    with pytest.raises(InvalidInput, match="row 1 has"):
        run(published | {"gallery": tmp_path / "swapped.hdf5"}, tmp_path / "out")


def test_nothing_is_overwritten(published: Files, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(InvalidInput, match="not empty"):
        run(published, tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"
