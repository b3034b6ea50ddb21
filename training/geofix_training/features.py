"""Crops to backbone statistics, by the hundred thousand: shards on disk, by several processes, resumed where they stopped."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geofix.images import Preprocessing, prepare
from geofix.placement import CPU
from geofix_training.crops import View, render, sample_centres
from geofix_training.damage import damage
from geofix_training.foreign import foreign
from geofix_training.raster import Raster

SHARD = 1000
"""Crops in one shard."""
BATCH = 10
"""Crops in one pass of the backbone."""
RENDER_SIZE = 256
"""Pixels of a rendered crop before preprocessing: users' images are larger than the network's input, and damaged at that size."""

VIEWS_IN_BLOCK = 240_000
"""Views drawn from one seed."""

PREPROCESSING = Preprocessing(size=224, fit="squash", resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Crops:
    """What was extracted: backbone statistics (n, RAW_DIM), places in degrees, footprints in km, and rotations, (n,) each."""

    raw: NDArray[np.float16]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    footprint_km: NDArray[np.float64]
    rotation_deg: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.lat)


@dataclass(frozen=True)
class Plan:
    """Which crops to extract: `views` in order, each damaged or not, from one seed."""

    views: tuple[View, ...]
    damaged: bool
    seed: int


def random_views(
    raster: Raster, count: int, footprint_km: tuple[float, float], rotation_deg: float, seed: int
) -> tuple[View, ...]:
    """Views of places uniform over land, footprints log-uniform within the range, rotations uniform within ± `rotation_deg`.

    They are drawn in blocks, so that a larger count begins with the same views and its shards go on where a smaller one's ended.
    """
    views: list[View] = []
    for block in range(-(-count // VIEWS_IN_BLOCK)):
        rng = np.random.default_rng(seed + block)
        lat, lon = sample_centres(raster, VIEWS_IN_BLOCK, rng)
        footprint = np.exp(rng.uniform(np.log(footprint_km[0]), np.log(footprint_km[1]), VIEWS_IN_BLOCK))
        rotation = rng.uniform(-rotation_deg, rotation_deg, VIEWS_IN_BLOCK)
        views.extend(View(*map(float, row)) for row in zip(lat, lon, footprint, rotation, strict=True))
    return tuple(views[:count])


def extract(raster: Raster, plan: Plan, backbone: Path, folder: Path, progress: Progress, processes: int = 0) -> Crops:
    """Statistics of all views of the plan; shards that are in `folder` already are read, not made again.

    Args:
        raster: where the pixels come from.
        plan: what to extract.
        backbone: ONNX file, `image` -> `raw`.
        folder: for the shards; one plan, one folder.
        progress: called with the crops done and their total.
        processes: 0 is one a core.

    Raises:
        OSError: the disk is full; the shards written so far stay good.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(0, len(plan.views), SHARD)
    missing = [start for start in shards if not _shard_path(folder, start).exists()]
    done = len(plan.views) - sum(len(plan.views[s : s + SHARD]) for s in missing)
    progress(done, len(plan.views))
    if missing:
        global _job  # noqa: PLW0603 - inherited by the forked workers: gigabytes of raster are shared, not sent
        _job = (raster, plan, str(backbone), folder)
        context = multiprocessing.get_context("fork")
        with context.Pool(processes or len(os.sched_getaffinity(0))) as pool:
            for count in pool.imap_unordered(_write_shard, missing):
                done += count
                progress(done, len(plan.views))
    return _join([_read_shard(_shard_path(folder, start)) for start in shards], plan)


_job: tuple[Raster, Plan, str, Path]
_session: object = None


def _write_shard(start: int) -> int:
    raster, plan, backbone, folder = _job
    views = plan.views[start : start + SHARD]
    rng = np.random.default_rng([plan.seed, start])
    run = _runner(backbone)
    raw = np.concatenate([run(batch) for batch in _batches(raster, views, plan.damaged, rng)]).astype(np.float16)
    path = _shard_path(folder, start)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, raw)
    partial.replace(path)
    return len(views)


def _batches(
    raster: Raster, views: tuple[View, ...], damaged: bool, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(views), BATCH):
        yield np.stack([crop_input(raster, view, damaged, rng) for view in views[start : start + BATCH]])


def crop_input(raster: Raster, view: View, damaged: bool, rng: np.random.Generator) -> NDArray[np.float32]:
    """The network's input for a view, shape (3, 224, 224), through the preprocessing that serving uses."""
    pixels = render(raster, view, RENDER_SIZE)
    return prepare(Image.fromarray(damage(pixels, rng) if damaged else pixels), PREPROCESSING)


def foreign_features(count: int, backbone: Path, seed: int) -> NDArray[np.float16]:
    """Backbone statistics of pictures of nothing (`foreign.py`), shape (count, RAW_DIM)."""
    rng = np.random.default_rng(seed)
    run = _runner(str(backbone))
    pictures = (prepare(Image.fromarray(foreign(RENDER_SIZE, rng)), PREPROCESSING) for _ in range(count))
    return np.concatenate([run(picture[None]) for picture in pictures]).astype(np.float16)


def _runner(backbone: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """One inference session a process, on one thread: the processes share the cores."""
    global _session  # noqa: PLW0603 - one a process
    if _session is None:
        _session = _open_session(backbone)
    return _session  # type: ignore[return-value]


def _open_session(backbone: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    from geofix.onnx import OnnxSession

    # Two to three times faster; the noise of bfloat16 is far below that of the damage.
    provider = "OpenVINO_BF16" if os.environ.get("GEOFIX_TRAIN_OPENVINO") else CPU
    session = OnnxSession(Path(backbone), (provider,), threads=1)
    return lambda batch: session.run(batch)["raw"]


def _shard_path(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.npy"


def _read_shard(path: Path) -> NDArray[np.float16]:
    return np.asarray(np.load(path))


def _join(parts: list[NDArray[np.float16]], plan: Plan) -> Crops:
    columns = np.array([(v.lat, v.lon, v.footprint_km, v.rotation_deg) for v in plan.views]).reshape(-1, 4)
    return Crops(np.concatenate(parts), columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3])
