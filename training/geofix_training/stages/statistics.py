"""The features of all images of a collection by a backbone that stays as it is.

Its statistics do not depend on what is held out, so that folds of a cross-validation share them; the whitening does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.errors import InvalidInput
from geofix.onnx import OnnxSession
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.export import export
from geofix_training.frozen import Depths, Mix, White, fit_white, load_white, save_white
from geofix_training.networks import TimmBackbone
from geofix_training.stages.filling import Filling, fill
from geofix_training.stages.work import Work, rows_with_features, save_array
from geofix_training.weights import load_into

BATCH = 8
"""Images in one pass: more do not fit the processor's caches."""
CHUNK = 4096
"""Rows whitened at a time."""


def extract_frozen(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `statistics.npy`, then `features.npy`; nothing where a backbone is trained, or all is there.

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
        _write_features(work)
    processes.wait()


def white_of(work: Work) -> White:
    """The whitening of the statistics; fitted to the rows that train where that has not been done."""
    config = work.experiment.backbone
    assert config is not None
    if not work.white.exists():
        statistics = np.load(work.statistics, mmap_mode="r")
        train, kinds = rows_with_features(work, statistics, Part.TRAIN), depths_of(work).kinds
        save_white(fit_white(statistics, train, kinds, config, work.experiment.seed), work.white)
    return load_white(work.white, config.clip)


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
    dims, outputs = {work.statistics: sum(depths.kinds)}, ["statistics"]
    if config.adapt is not None:
        dims[work.maps] = sum(int(np.prod(shape)) for shape in depths.map_shapes)
        outputs.append("maps")
    graph = work.depths.with_suffix(f".{processes.rank}.onnx")
    session = _opener(lambda: _Flat(depths), graph, config.preprocessing.size, outputs)

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        found = session().run(batch)
        return tuple(_within_half(found[name]) for name in outputs)

    fill(work, Filling(dims, work.stage("statistics_done"), BATCH, config, run), processes, progress)


def extract_plain(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `plain.npy`, what the baseline of a cross-validation, a network that is taught nothing, pools."""
    config, baseline = work.experiment.backbone, work.experiment.baseline
    if config is None or baseline is None:
        return
    network = TimmBackbone(baseline)
    graph = work.plain.with_suffix(f".{processes.rank}.onnx")
    session = _opener(lambda: network, graph, baseline.preprocessing.size, ["pooled"])

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32]]:
        return (session().run(batch)["pooled"],)

    reads = config.model_copy(update={"preprocessing": baseline.preprocessing})
    fill(work, Filling({work.plain: network.dim}, work.stage("plain_done"), BATCH, reads, run), processes, progress)


class _Flat(nn.Module):
    """Images to statistics and, where layers are taught, the maps of all networks, (n, Σ c · h · w)."""

    def __init__(self, depths: Depths) -> None:
        super().__init__()
        self.depths = depths

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        statistics, maps = self.depths(image)
        return (statistics, torch.cat([one.flatten(1) for one in maps], dim=1)) if maps else (statistics,)


def _opener(make: Callable[[], nn.Module], graph: Path, size: int, outputs: list[str]) -> Callable[[], OnnxSession]:
    """Gives a session of a network, opened for the first image: where all is done there is none."""

    @cache
    def session() -> OnnxSession:
        export(make(), torch.zeros(2, 3, size, size), graph, ["image"], outputs)
        opened = OnnxSession(graph)
        graph.unlink()
        return opened

    return session


def _within_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = float(np.finfo(np.float16).max)
    return np.clip(values, -largest, largest)


def _write_features(work: Work) -> None:
    config = work.experiment.backbone
    assert config is not None
    mix, white, statistics = Mix.of(config), white_of(work), np.load(work.statistics, mmap_mode="r")
    taught = np.load(work.taught, mmap_mode="r") if work.taught.exists() else None
    parts = []
    for start in range(0, len(statistics), CHUNK):
        part = torch.from_numpy(statistics[start : start + CHUNK].astype(np.float32))
        own = None if taught is None else torch.from_numpy(taught[start : start + CHUNK].astype(np.float32))
        with torch.no_grad():
            parts.append(mix.feature(white(part), own).numpy().astype(np.float16))
    save_array(work.features, np.concatenate(parts))
