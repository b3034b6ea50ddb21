"""The features of all images of a collection by a backbone that stays as it is.

Its statistics do not depend on what is held out, so that folds of a cross-validation share them; the whitening does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from geofix.errors import InvalidInput
from geofix.onnx import OnnxSession
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.export import export
from geofix_training.frozen import Depths, fit_white, joined, load_white, save_white
from geofix_training.stages.filling import Filling, fill
from geofix_training.stages.work import Work, rows_with_features, save_array
from geofix_training.weights import load_into

BATCH = 8
"""Images in one pass: more do not fit the processor's caches."""
CHUNK = 4096
"""Rows whitened at a time."""


def extract_frozen(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `statistics.npy`, fit the whitening, fill `features.npy`; nothing where a backbone is trained, or all is there.

    Raises:
        InvalidInput: the backbone is to be adapted, and that has not been done.
    """
    config = work.experiment.backbone
    if config is None or not config.frozen or work.features.exists():
        return
    if config.adapt is not None and not work.taught.exists():
        raise InvalidInput(f"{work.folder} holds no adapted backbone: run geofix-train adapt first")
    extract_statistics(work, processes, progress)
    if processes.main:
        statistics = np.load(work.statistics, mmap_mode="r")
        train, kinds = rows_with_features(work, statistics, Part.TRAIN), depths_of(work).kinds
        save_white(fit_white(statistics, train, kinds, config.components, work.experiment.seed), work.white)
        _write_features(work, statistics)
    processes.wait()


@lru_cache(maxsize=2)
def depths_of(work: Work) -> Depths:
    """The network as it was when the work began, whatever a package or a hub gives now; kept, for making one takes a second."""
    config = work.experiment.backbone
    assert config is not None
    depths = Depths(config, initial=False)
    load_into(depths, torch.load(work.depths, weights_only=True), work.depths)
    return depths


def extract_statistics(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `statistics.npy` and, where the last layers are to be taught, `maps.npy`; shards that are done are kept."""
    config = work.experiment.backbone
    assert config is not None
    if processes.main and not work.depths.exists():
        partial = work.depths.with_suffix(".partial")
        torch.save(Depths(config).state_dict(), partial)
        partial.replace(work.depths)
    processes.wait()
    depths = depths_of(work)
    dims = {work.statistics: sum(depths.kinds)}
    if config.adapt is not None:
        dims[work.maps] = int(np.prod(depths.map_shape))
    session = _opener(work, config.preprocessing.size, processes.rank)

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        found = session().run(batch)
        return (found["statistics"], _half(found["maps"]))[: len(dims)]

    fill(work, Filling(dims, work.stage("statistics_done"), BATCH, config, run), processes, progress)


def extract_plain(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `plain.npy`, the means of the untaught network's last layer, for the baseline of a cross-validation."""
    config, preprocessing = work.experiment.backbone, work.experiment.baseline
    if config is None or preprocessing is None:
        return
    width, session = depths_of(work).kinds[0], _opener(work, preprocessing.size, processes.rank)

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32]]:
        return (session().run(batch)["statistics"][:, :width],)

    reads = config.model_copy(update={"preprocessing": preprocessing})
    fill(work, Filling({work.plain: width}, work.stage("plain_done"), BATCH, reads, run), processes, progress)


def _opener(work: Work, size: int, rank: int) -> Callable[[], OnnxSession]:
    """Gives a session of the network, opened for the first image: where all is done there is none."""

    @cache
    def session() -> OnnxSession:
        graph = work.depths.with_suffix(f".{rank}.onnx")
        export(depths_of(work), torch.zeros(2, 3, size, size), graph, ["image"], ["statistics", "maps"])
        opened = OnnxSession(graph)
        graph.unlink()
        return opened

    return session


def _half(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps as rows of what float16 can hold."""
    largest = float(np.finfo(np.float16).max)
    return np.clip(maps.reshape(len(maps), -1), -largest, largest)


def _write_features(work: Work, statistics: NDArray[np.float16]) -> None:
    white = load_white(work.white)
    taught = np.load(work.taught, mmap_mode="r") if work.taught.exists() else None
    parts = []
    for start in range(0, len(statistics), CHUNK):
        part = torch.from_numpy(statistics[start : start + CHUNK].astype(np.float32))
        own = None if taught is None else torch.from_numpy(taught[start : start + CHUNK].astype(np.float32))
        with torch.no_grad():
            parts.append(joined(white(part), own).numpy().astype(np.float16))
    save_array(work.features, np.concatenate(parts))
