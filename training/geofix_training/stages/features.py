"""The features of all images of a collection by the trained backbone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from geofix_training.engine.loop import Progress
from geofix_training.engine.processes import Processes
from geofix_training.networks import feature_of
from geofix_training.stages.classifier import trained_classifier
from geofix_training.stages.filling import Filling, fill
from geofix_training.stages.work import Work

BATCH = 32


def extract_features(work: Work, processes: Processes, progress: Progress) -> None:
    """Fill `features.npy`, where the classifier has trained a backbone."""
    config = work.experiment.backbone
    if config is None or config.frozen:
        return
    network = trained_classifier(work).to(processes.device)

    def run(batch: NDArray[np.float32]) -> tuple[NDArray[np.float32]]:
        return (feature_of(network.backbone, torch.from_numpy(batch).to(processes.device)).numpy(),)

    filling = Filling({work.features: network.dim}, work.stage("features_done"), BATCH, config, run)
    fill(work, filling, processes, progress)
