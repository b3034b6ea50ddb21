"""`geofix-train classifier`: the mixture head and, where there are images, the backbone under it, by maximum likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geofix.geo import EARTH_RADIUS_KM, latlon_to_xyz
from geofix_training.data.images import Images
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Batch, Progress, Trainer
from geofix_training.engine.processes import Processes
from geofix_training.engine.schedule import Draw, Plan
from geofix_training.experiment import TrainConfig
from geofix_training.heads import MixtureHead, mvmf_log_density
from geofix_training.networks import TimmBackbone
from geofix_training.stages.best import fill_best
from geofix_training.stages.statistics import extract_frozen
from geofix_training.stages.work import Work, rows_with_features

VALIDATION_ROWS = 2_000
"""Rows that a validation looks at, at most."""
VALIDATION_BATCH = 64


class ClassifierNetwork(nn.Module):
    """Backbone and mixture head; its forward is the loss, so that it can be wrapped for several processes."""

    def __init__(self, work: Work, dim: int, *, initial: bool = True) -> None:
        super().__init__()
        experiment, config = work.experiment, work.experiment.classifier
        self.backbone: nn.Module = nn.Identity()
        if not dim:
            assert experiment.backbone is not None
            self.backbone = TimmBackbone(experiment.backbone, initial=initial)
            dim = self.backbone.dim
        self.dim = dim
        cells = work.cells
        means, kappas = torch.from_numpy(cells.xyz), torch.from_numpy(cells.kappa)
        self.head = MixtureHead(dim, means, kappas, config.hidden, config.dropout)
        self.feature_noise, self.soften_km = config.feature_noise, config.soften_km

    def forward(self, inputs: Tensor, xyz: Tensor, weight: Tensor) -> Tensor:
        """Mean loss of rows by weight: inputs (n, ...), places as unit vectors (n, 3), weights (n,)."""
        feature = self.backbone(inputs)
        if self.training and self.feature_noise:
            feature = feature + self.feature_noise * torch.randn_like(feature)
        log_weights = self.head(feature).float()  # what follows needs its digits, whatever the networks ran in
        with torch.autocast(inputs.device.type, enabled=False):
            loss = self._softened(log_weights, xyz) if self.soften_km else self._likelihood(log_weights, xyz)
        return (loss * weight).sum() / weight.sum().clamp_min(1.0)

    def _likelihood(self, log_weights: Tensor, xyz: Tensor) -> Tensor:
        return -mvmf_log_density(log_weights, xyz, self.head.unit_means(), self.head.log_kappa.exp()).float()

    def _softened(self, log_weights: Tensor, xyz: Tensor) -> Tensor:
        """Cross-entropy with labels that fall off with the distance to a cell's mean."""
        means = self.head.unit_means().detach()
        chord = (2.0 - 2.0 * (xyz.double() @ means.T)).clamp_min(0.0).sqrt()
        away_km = EARTH_RADIUS_KM * 2.0 * torch.asin((chord / 2.0).clamp_max(1.0))
        target = functional.softmax(-away_km / self.soften_km, dim=1).float()
        return -(target * log_weights).sum(dim=1)


class ClassifierTask:
    """Rows of a work folder as batches for the classifier."""

    def __init__(self, work: Work) -> None:
        self._columns = work.index.columns
        config = work.experiment.backbone
        trained = config is not None and not config.frozen
        self._images = Images(work.index, config, work.unreadable) if config is not None and trained else None
        self._features: NDArray[np.float16] | None = None
        rows = work.rows(Part.VALIDATION)
        if self._images is None:
            self._features = np.load(work.features, mmap_mode="r")
            rows = rows_with_features(work, self._features, Part.VALIDATION)
        self.module: nn.Module = ClassifierNetwork(work, feature_dim(work))
        self.rows = work.rows(Part.TRAIN)
        if self._features is not None:
            self.rows = rows_with_features(work, self._features, Part.TRAIN)
        self._validation = np.random.default_rng(work.experiment.seed).permutation(rows)[:VALIDATION_ROWS]

    def load(self, draw: Draw) -> Batch:
        """Inputs, places and weights of a pass; an image that cannot be read is left out."""
        rng = np.random.default_rng(draw.seed)
        if self._features is not None:
            return self._batch(draw.rows, torch.from_numpy(self._features[draw.rows].astype(np.float32)))
        assert self._images is not None
        found = [self._images.training_input(int(row), rng) for row in draw.rows]
        return self._stacked(draw.rows, found)

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """The backbone at its own rate; means and kappas without decay."""
        network = self.module
        assert isinstance(network, ClassifierNetwork)
        base = list(network.backbone.parameters())
        slow = [network.head.means, network.head.log_kappa]
        known = {id(parameter) for parameter in [*base, *slow]}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        rate = config.learning_rate
        base_rate = rate if config.backbone_learning_rate is None else config.backbone_learning_rate
        groups = [(base, base_rate, config.weight_decay), (rest, rate, config.weight_decay), (slow, rate, 0.0)]
        return [{"params": p, "lr": lr, "weight_decay": decay} for p, lr, decay in groups if p]

    def validate(self, module: nn.Module, device: torch.device) -> float:
        """The mean loss on the rows set aside, read as serving reads them."""
        losses, weights = 0.0, 0
        size = VALIDATION_BATCH if self._images is not None else VALIDATION_ROWS
        for start in range(0, len(self._validation), size):
            rows = self._validation[start : start + size]
            with torch.no_grad():
                for batch in self._serving_batches(rows):
                    losses += len(batch[0]) * float(module(*(part.to(device) for part in batch)))
                    weights += len(batch[0])
        return losses / weights if weights else float("nan")

    def _serving_batches(self, rows: NDArray[np.int64]) -> list[Batch]:
        if self._features is not None:
            return [self._batch(rows, torch.from_numpy(self._features[rows].astype(np.float32)))]
        assert self._images is not None
        found = [(row, self._images.serving_input(int(row))) for row in rows]
        # Images that keep their shape cannot be stacked with others.
        return [self._stacked(np.array([row]), [values]) for row, values in found if values is not None]

    def _stacked(self, rows: NDArray[np.int64], found: list[NDArray[np.float32] | None]) -> Batch:
        kept = [number for number, values in enumerate(found) if values is not None]
        if not kept:  # every process takes part in every step, so this pass counts for nothing instead
            size = self._images.config.preprocessing.size if self._images is not None else 0
            blank = torch.zeros(2, 3, size, size)
            return blank, torch.tensor([[0.0, 0.0, 1.0]] * 2), torch.zeros(2)
        images = np.stack([values for values in found if values is not None])
        return self._batch(rows[kept], torch.from_numpy(images))

    def _batch(self, rows: NDArray[np.int64], inputs: Tensor) -> Batch:
        xyz = latlon_to_xyz(self._columns["lat"][rows], self._columns["lon"][rows])
        return inputs, torch.from_numpy(xyz), torch.ones(len(rows))


def run_classifier(work: Work, processes: Processes, progress: Progress) -> ClassifierNetwork:
    """Train, or go on; the network with the best weights."""
    experiment = work.experiment
    torch.manual_seed(experiment.seed)  # every process starts from the same weights
    extract_frozen(work, processes, progress)
    task = ClassifierTask(work)
    plan = Plan(task.rows, experiment.classifier.train, experiment.seed, processes.rank, processes.world)
    network = Trainer(task, plan, work.stage("classifier"), processes, progress).run()
    assert isinstance(network, ClassifierNetwork)
    return network


def feature_dim(work: Work) -> int:
    """Values of a feature; 0 where the classifier trains the backbone that makes it."""
    config = work.experiment.backbone
    return 0 if config is not None and not config.frozen else int(np.load(work.features, mmap_mode="r").shape[1])


def trained_classifier(work: Work) -> ClassifierNetwork:
    """The network of a finished stage.

    Raises:
        InvalidInput: the stage has not been run.
    """
    network = ClassifierNetwork(work, feature_dim(work), initial=False)
    fill_best(network, work, "classifier")
    return network.eval()
