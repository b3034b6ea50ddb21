"""The features of all images of a collection by a backbone that stays as it is.

Its statistics do not depend on what is held out, so that folds of a cross-validation share them; the whitening does.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from geofix.onnx import OnnxSession
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.experiment import BackboneConfig
from geofix_training.export import export
from geofix_training.frozen import Depths, FrozenBackbone, fit_white, load_white, save_white
from geofix_training.stages.filling import Filling, fill
from geofix_training.stages.work import Work, rows_with_features
from geofix_training.weights import load_into

BATCH = 8
"""Images in one pass: more do not fit the processor's caches."""
CHUNK = 4096
"""Rows whitened at a time."""


def extract_frozen(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `statistics.npy`, fit the whitening, fill `features.npy`; nothing where a backbone is trained, or all is there."""
    config = work.experiment.backbone
    if config is None or not config.frozen or work.features.exists():
        return
    kinds = _statistics(work, config, processes, progress)
    if processes.main:
        statistics = np.load(work.statistics, mmap_mode="r")
        train = rows_with_features(work, statistics, Part.TRAIN)
        save_white(fit_white(statistics, train, kinds, config.components, work.experiment.seed), work.white)
        _whiten(work, statistics)
    processes.wait()


def frozen_backbone(work: Work, config: BackboneConfig) -> FrozenBackbone:
    """The network that made `features.npy`."""
    return FrozenBackbone(_depths(work, config), load_white(work.white))


def _depths(work: Work, config: BackboneConfig) -> Depths:
    """The network as it was when the work began, whatever a package or a hub gives now."""
    depths = Depths(config, initial=False)
    load_into(depths, torch.load(work.depths, weights_only=True), work.depths)
    return depths


def _statistics(work: Work, config: BackboneConfig, processes: Processes, progress: Progress) -> tuple[int, ...]:
    if processes.main and not work.depths.exists():
        partial = work.depths.with_suffix(".partial")
        torch.save(Depths(config).state_dict(), partial)
        partial.replace(work.depths)
    processes.wait()
    depths = _depths(work, config)

    @cache
    def session() -> OnnxSession:  # opened for the first image: where all is done there is none
        graph, size = work.depths.with_suffix(f".{processes.rank}.onnx"), config.preprocessing.size
        export(depths, torch.zeros(2, 3, size, size), graph, ["image"], ["statistics"])
        opened = OnnxSession(graph)
        graph.unlink()
        return opened

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return session().run(batch)["statistics"]

    filling = Filling(work.statistics, work.stage("statistics_done"), sum(depths.kinds), BATCH, run)
    fill(work, filling, processes, progress)
    return depths.kinds


def _whiten(work: Work, statistics: NDArray[np.float16]) -> None:
    white = load_white(work.white)
    partial = work.features.with_suffix(".partial.npy")
    features = np.lib.format.open_memmap(partial, "w+", np.float16, (len(statistics), white.dim))
    for start in range(0, len(statistics), CHUNK):
        part = torch.from_numpy(statistics[start : start + CHUNK].astype(np.float32))
        with torch.no_grad():
            features[start : start + CHUNK] = white(part).numpy()
    features.flush()
    partial.replace(work.features)
