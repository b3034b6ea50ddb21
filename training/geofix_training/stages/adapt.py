"""`geofix-train adapt`: the last layers of a backbone, taught by contrast between images of one place and of others.

What comes before them stays as it is, and its maps were written once: a pass then costs a fraction of what it would from pixels.
Training views are cut from the maps. The loss sees the cosines of the whole feature, what stays and what is taught, so that the
layers learn what the others do not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.errors import ConfigurationError
from geofix.geo import FloatArray, chord_within, latlon_to_xyz
from geofix_training.adapt import Tail, Tails, as_input, embed
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Batch, Progress, Trainer
from geofix_training.engine.processes import Processes
from geofix_training.engine.schedule import Draw, Plan
from geofix_training.experiment import AdaptConfig, TrainConfig
from geofix_training.frozen import KINDS, Mix
from geofix_training.heads import multi_positive_loss
from geofix_training.reduction import Reduction, fit_reduction
from geofix_training.rounding import round_weights
from geofix_training.stages.best import fill_best
from geofix_training.stages.statistics import depths_of, extract_statistics, white_of
from geofix_training.stages.work import Work, rows_with_features

VALIDATION_ROWS, VALIDATION_KEYS = 256, 768
"""Rows set aside, and training rows that they are contrasted with: each costs a pass of the layers."""
CHUNK = 128
"""Maps in one pass where nothing is learned."""


class AdaptNetwork(nn.Module):
    """The layers; their forward is the loss."""

    def __init__(self, tails: Tails, mix: Mix, temperature: float) -> None:
        super().__init__()
        self.tails, self.mix, self.temperature = tails, mix, temperature

    def forward(self, queries: Tensor, positive: Tensor, same: Tensor, stays: Tensor, *maps: Tensor) -> Tensor:
        """Contrast the first images of a batch with all of it.

        Args:
            queries: how many of the first count as queries, a scalar.
            positive: 1 where an image is of a query's place, (n, m).
            same: true where it is the query itself, (n, m).
            stays: unit vectors of what is not taught, (m, d).
            maps: of each network, (m, c, h, w).
        """
        embedding = self.mix.whole(stays, self.tails(maps))
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
        self._shapes = depths_of(work).map_shapes
        self._maps: NDArray[np.float16] = np.load(work.maps, mmap_mode="r")
        self._statistics: NDArray[np.float16] = np.load(work.statistics, mmap_mode="r")
        self._white, self._mix = white_of(work), _mix_of(work)
        tails = tails_of(work, _whitenings(work, self.rows, config))
        self.module: nn.Module = AdaptNetwork(tails, self._mix, config.temperature)
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

    def _read(self, rows: NDArray[np.int64]) -> list[NDArray[np.float16]]:
        return divided(np.asarray(self._maps[rows]), self._shapes)

    def _views(self, rows: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.float16]]:
        """A window of each picture, the same of each network's maps: one size for all, a place of its own, some mirrored."""
        share, corner = rng.uniform(*self._config.crop), rng.random((len(rows), 2))
        mirrored = rng.random(len(rows)) < (0.5 if self._config.flip else 0.0)
        return [_windows(maps, share, corner, mirrored) for maps in self._read(rows)]

    def _batch(self, maps: list[NDArray[np.float16]], rows: NDArray[np.int64], queries: int) -> Batch:
        chord = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (self._xyz[rows[:queries]] @ self._xyz[rows].T)))
        same = rows[:queries, None] == rows[None, :]
        positive = ((chord <= self._chord) & ~same).astype(np.float32)
        with torch.no_grad():
            stays = self._mix.untaught(self._white(torch.from_numpy(self._statistics[rows].astype(np.float32))))
        marks = torch.tensor(queries), torch.from_numpy(positive), torch.from_numpy(same)
        return *marks, stays, *map(as_input, maps)


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
    if processes.main:
        white_of(work)
    processes.wait()
    torch.manual_seed(experiment.seed)
    task = AdaptTask(work, config)
    plan = Plan(task.rows, config.train, experiment.seed, processes.rank, processes.world)
    network = Trainer(task, plan, work.stage("adapt"), processes, progress).run()
    assert isinstance(network, AdaptNetwork)
    if processes.main:
        _write(work, _as_stored(work, network.tails.cpu()))
    processes.wait()


def tails_of(work: Work, reductions: Sequence[Reduction]) -> Tails:
    """The last layers of each network as they are before anything is learned, with the reduction of each."""
    backbone = work.experiment.backbone
    assert backbone is not None
    assert backbone.adapt is not None
    nets = zip(depths_of(work).nets, reductions, strict=True)
    return Tails([Tail(net, backbone.adapt.blocks, reduction) for net, reduction in nets])


def trained_tails(work: Work) -> Tails:
    """The layers of a finished stage.

    Raises:
        InvalidInput: the stage has not been run.
    """
    backbone = work.experiment.backbone
    assert backbone is not None
    assert backbone.adapt is not None
    blanks = [np.zeros(end - start, np.float32) for start, end in _last_layers(work)]
    dim = backbone.adapt.embedding_dim
    empty = [Reduction(blank, blank, np.zeros((len(blank), dim), np.float32)) for blank in blanks]
    network = AdaptNetwork(tails_of(work, empty), Mix.of(backbone), backbone.adapt.temperature)
    fill_best(network, work, "adapt")
    return _as_stored(work, network.tails.eval())


def _mix_of(work: Work) -> Mix:
    assert work.experiment.backbone is not None
    return Mix.of(work.experiment.backbone)


def _as_stored(work: Work, tails: Tails) -> Tails:
    if work.experiment.backbone is not None and work.experiment.backbone.weight_bits == 8:
        round_weights(tails)
    return tails


def divided(rows: NDArray[np.float16], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float16]]:
    """Rows of `maps.npy`, (n, Σ c · h · w), as the maps of each network, (n, c, h, w)."""
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(-1, *shape) for part, shape in zip(np.split(rows, cuts, axis=1), shapes, strict=True)]


def _windows(
    maps: NDArray[np.float16], share: float, corner: FloatArray, mirrored: NDArray[np.bool_]
) -> NDArray[np.float16]:
    """Of maps (n, c, h, w) windows (n, c, share · h, share · w); `corner`, (n, 2) from 0 to 1, says where."""
    height, width = (max(1, round(share * side)) for side in maps.shape[2:])
    room = np.array([maps.shape[2] - height + 1, maps.shape[3] - width + 1])
    views = np.empty((*maps.shape[:2], height, width), np.float16)
    for number, (top, left) in enumerate((corner * room).astype(int).tolist()):
        view = maps[number, :, top : top + height, left : left + width]
        views[number] = view[:, :, ::-1] if mirrored[number] else view
    return views


def _last_layers(work: Work) -> list[tuple[int, int]]:
    """From where to where mean and GeM of each network's last layer stand in a row of statistics."""
    kinds = depths_of(work).kinds
    ends = np.cumsum([0, *kinds]).tolist()
    return [(ends[first], ends[first + 2]) for first in range(0, len(kinds), KINDS)]


def _whitenings(work: Work, rows: NDArray[np.int64], config: AdaptConfig) -> list[Reduction]:
    """Of mean and GeM of each network's last layer as they are before anything is learned."""
    statistics = np.load(work.statistics, mmap_mode="r")
    seed = work.experiment.seed
    return [
        fit_reduction([statistics[rows, start:end]], config.embedding_dim, seed) for start, end in _last_layers(work)
    ]


def _write(work: Work, tails: Tails) -> None:
    maps, shapes = np.load(work.maps, mmap_mode="r"), depths_of(work).map_shapes
    starts = range(0, len(maps), CHUNK)
    taught = embed(tails.eval(), (divided(maps[start : start + CHUNK], shapes) for start in starts))
    partial = work.taught.with_suffix(".partial.npy")
    np.save(partial, taught.astype(np.float16))
    partial.replace(work.taught)
