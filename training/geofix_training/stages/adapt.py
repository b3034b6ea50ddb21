"""`geofix-train adapt`: the last layers of a backbone, taught by contrast between images of one place and of others.

What comes before them stays as it is, and its maps were written once: a pass then costs a fraction of what it would from pixels.
Training views are cut from the maps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.errors import ConfigurationError
from geofix.geo import chord_within, latlon_to_xyz
from geofix_training.adapt import Tail, as_input, embed
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Batch, Progress, Trainer
from geofix_training.engine.processes import Processes
from geofix_training.engine.schedule import Draw, Plan
from geofix_training.experiment import AdaptConfig, TrainConfig
from geofix_training.heads import multi_positive_loss
from geofix_training.reduction import Reduction, fit_reduction
from geofix_training.stages.best import fill_best
from geofix_training.stages.statistics import depths_of, extract_statistics
from geofix_training.stages.work import Work, rows_with_features

VALIDATION_ROWS, VALIDATION_KEYS = 256, 768
"""Rows set aside, and training rows that they are contrasted with: each costs a pass of the layers."""
CHUNK = 128
"""Maps in one pass where nothing is learned."""


class AdaptNetwork(nn.Module):
    """The layers; their forward is the loss."""

    def __init__(self, tail: Tail, temperature: float) -> None:
        super().__init__()
        self.tail, self.temperature = tail, temperature

    def forward(self, maps: Tensor, queries: Tensor, positive: Tensor, same: Tensor) -> Tensor:
        """Contrast the first images of a batch with all of it.

        Args:
            maps: (m, c, h, w).
            queries: how many of the first count as queries, a scalar.
            positive: 1 where an image is of a query's place, (n, m).
            same: true where it is the query itself, (n, m).
        """
        embedding = self.tail(maps)
        similarity = (embedding[: int(queries)] @ embedding.T).float().masked_fill(same, -1e4)
        if not bool((positive > 0).any()):  # nobody has a partner: nothing to learn from, but every process steps
            nothing: Tensor = 0.0 * embedding.sum()
            return nothing
        return multi_positive_loss(similarity, positive, self.temperature)


class AdaptTask:
    """Rows of a work folder as batches of maps; rows whose image cannot be read are left out."""

    def __init__(self, work: Work, config: AdaptConfig) -> None:
        from scipy.spatial import cKDTree

        self._config = config
        self.rows = rows_with_features(work, np.load(work.statistics, mmap_mode="r"), Part.TRAIN)
        columns = work.index.columns
        self._xyz = latlon_to_xyz(np.asarray(columns["lat"]), np.asarray(columns["lon"]))
        self._group = columns["group"]
        self._tree = cKDTree(self._xyz[self.rows])
        self._chord = chord_within(config.positive_km)
        depths = depths_of(work)
        self._shape = depths.map_shape
        self._maps: NDArray[np.float16] = np.load(work.maps, mmap_mode="r")
        self.module: nn.Module = AdaptNetwork(
            Tail(depths, config.blocks, _whitening(work, self.rows, config)), config.temperature
        )
        self._validation = rows_with_features(work, self._maps, Part.VALIDATION)[:VALIDATION_ROWS]

    def load(self, draw: Draw) -> Batch:
        """A pass: some rows, a partner for each that has one, and who is of whose place; both count as queries."""
        rng = np.random.default_rng(draw.seed)
        rows = np.concatenate([draw.rows, self._partners(draw.rows, rng)])
        return self._batch(self._views(rows, rng), rows, len(rows))

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """All that learns, alike."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        return [{"params": parameters, "lr": config.learning_rate, "weight_decay": config.weight_decay}]

    def validate(self, module: nn.Module, device: torch.device) -> float:
        """The loss of rows set aside against a fixed sample of the training rows, all as serving sees them."""
        queries = len(self._validation)
        if not queries:
            return float("nan")
        keys = self.rows[:: max(1, len(self.rows) // VALIDATION_KEYS)][:VALIDATION_KEYS]
        rows = np.concatenate([self._validation, keys])
        batch = self._batch(self._read(rows), rows, queries)
        with torch.no_grad():
            return float(module(*(part.to(device) for part in batch)))

    def _partners(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """For each row another one of its place, of another group where there is one, or none at all."""
        found = []
        for row, near in zip(rows, self._tree.query_ball_point(self._xyz[rows], self._chord), strict=True):
            others = self.rows[near]
            others = others[others != row]
            foreign = others[self._group[others] != self._group[row]]
            choice = foreign if len(foreign) else others
            if len(choice):
                found.append(int(rng.choice(choice)))
        return np.array(found, np.int64)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        return np.asarray(self._maps[rows]).reshape(len(rows), *self._shape)

    def _views(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float16]:
        """A window of one size from each map, at a place of its own, some mirrored."""
        maps, share = self._read(rows), rng.uniform(*self._config.crop)
        height, width = (max(1, round(share * side)) for side in self._shape[1:])
        views = np.empty((len(rows), self._shape[0], height, width), np.float16)
        for number, one in enumerate(maps):
            top, left = (
                int(rng.integers(side - kept + 1)) for side, kept in zip(one.shape[1:], (height, width), strict=True)
            )
            view = one[:, top : top + height, left : left + width]
            views[number] = view[:, :, ::-1] if self._config.flip and rng.random() < 0.5 else view
        return views

    def _batch(self, maps: NDArray[np.float16], rows: NDArray[np.int64], queries: int) -> Batch:
        chord = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (self._xyz[rows[:queries]] @ self._xyz[rows].T)))
        same = rows[:queries, None] == rows[None, :]
        positive = ((chord <= self._chord) & ~same).astype(np.float32)
        return as_input(maps), torch.tensor(queries), torch.from_numpy(positive), torch.from_numpy(same)


def run_adapt(work: Work, processes: Processes, progress: Progress) -> None:
    """Read every image once, then train, or go on; `taught.npy` holds what all images then look like.

    Raises:
        ConfigurationError: the experiment has no `backbone.adapt`, or the network cannot be adapted.
    """
    experiment = work.experiment
    if experiment.backbone is None or experiment.backbone.adapt is None:
        raise ConfigurationError(f"{experiment.name} has no backbone.adapt: go on with geofix-train classifier")
    config = experiment.backbone.adapt
    if work.taught.exists():
        return
    extract_statistics(work, processes, progress)
    torch.manual_seed(experiment.seed)
    task = AdaptTask(work, config)
    plan = Plan(task.rows, config.train, experiment.seed, processes.rank, processes.world)
    network = Trainer(task, plan, work.stage("adapt"), processes, progress).run()
    assert isinstance(network, AdaptNetwork)
    if processes.main:
        _write(work, network.tail.cpu())
    processes.wait()


def trained_tail(work: Work) -> Tail:
    """The layers of a finished stage.

    Raises:
        InvalidInput: the stage has not been run.
    """
    backbone = work.experiment.backbone
    assert backbone is not None
    assert backbone.adapt is not None
    depths = depths_of(work)
    width = 2 * depths.kinds[0]
    blank = np.zeros(width, np.float32)
    empty = Reduction(blank, blank, np.zeros((width, backbone.adapt.embedding_dim), np.float32))
    network = AdaptNetwork(Tail(depths, backbone.adapt.blocks, empty), backbone.adapt.temperature)
    fill_best(network, work, "adapt")
    return network.tail.eval()


def _whitening(work: Work, rows: NDArray[np.int64], config: AdaptConfig) -> Reduction:
    """Of mean and GeM of the last layer as they are before anything is learned."""
    mean, other = depths_of(work).kinds[:2]
    pooled = np.load(work.statistics, mmap_mode="r")[rows, : mean + other]
    return fit_reduction([pooled], config.embedding_dim, work.experiment.seed)


def _write(work: Work, tail: Tail) -> None:
    maps, shape = np.load(work.maps, mmap_mode="r"), depths_of(work).map_shape
    starts = range(0, len(maps), CHUNK)
    taught = embed(tail.eval(), (maps[start : start + CHUNK].reshape(-1, *shape) for start in starts))
    partial = work.taught.with_suffix(".partial.npy")
    np.save(partial, taught.astype(np.float16))
    partial.replace(work.taught)
