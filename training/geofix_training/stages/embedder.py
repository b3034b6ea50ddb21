"""`geofix-train embedder`: the retrieval module, by contrast between images of one place and of others, over frozen features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix.geo import EARTH_RADIUS_KM, FloatArray, chord_within, latlon_to_xyz
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Batch, Progress, Trainer
from geofix_training.engine.processes import Processes
from geofix_training.engine.schedule import Draw, Plan
from geofix_training.experiment import RetrievalConfig, TrainConfig
from geofix_training.heads import RetrievalModule, multi_positive_loss
from geofix_training.stages.best import fill_best
from geofix_training.stages.features import extract_features
from geofix_training.stages.work import Work, rows_with_features

NEAREST = 16
"""Places from which a row's partner is drawn."""
STARTING_ROWS = 16_384
"""Rows that tell where the module begins, if it begins as features are."""


class RetrievalNetwork(nn.Module):
    """The retrieval module; its forward is the loss."""

    def __init__(self, dim: int, config: RetrievalConfig) -> None:
        super().__init__()
        self.module = RetrievalModule(dim, config.hidden, config.embedding_dim)
        self.temperature, self.noise = config.temperature, config.feature_noise

    def forward(self, query: Tensor, key: Tensor, positive: Tensor, excluded: Tensor) -> Tensor:
        """Contrast n queries with m keys, features (n, d) and (m, d).

        Args:
            query: features.
            key: features.
            positive: 1 where a key is of the query's place, (n, m).
            excluded: true where a key is of the query's own group and counts neither way, (n, m).
        """
        if self.training and self.noise:
            query = query + self.noise * torch.randn_like(query)
        if not bool((positive > 0).any()):  # nobody has a partner: nothing to learn from, but every process steps
            nothing: Tensor = 0.0 * (self.module(query).sum() + self.module(key).sum())
            return nothing
        similarity = (self.module(query) @ self.module(key).T).float()
        return multi_positive_loss(similarity.masked_fill(excluded, -1e4), positive, self.temperature)


class Places:
    """Rows by place, and for each place the places around it."""

    def __init__(self, lat: FloatArray, lon: FloatArray, rows: NDArray[np.int64], radius_km: float) -> None:
        from scipy.spatial import cKDTree

        places, self.of_row = np.unique(np.stack([lat, lon], axis=1), axis=0, return_inverse=True)
        order = np.argsort(self.of_row, kind="stable")
        self._rows, self._bounds = rows[order], np.searchsorted(self.of_row[order], np.arange(len(places) + 1))
        xyz = latlon_to_xyz(places[:, 0], places[:, 1])
        _, near = cKDTree(xyz).query(xyz, k=min(NEAREST, len(places)), distance_upper_bound=chord_within(radius_km))
        self._near = near.reshape(len(places), -1)
        self._count = (self._near < len(places)).sum(axis=1)

    def partners(self, at: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """For rows by their positions (n,), a random row of a random place within the radius, (n,)."""
        place = self.of_row[at]
        chosen = self._near[place, rng.integers(0, self._count[place])]
        first, last = self._bounds[chosen], self._bounds[chosen + 1]
        return np.asarray(self._rows[first + rng.integers(0, last - first)])


class EmbedderTask:
    """Rows of a work folder as batches for the retrieval module; rows without a feature are left out."""

    def __init__(self, work: Work, rows: NDArray[np.int64]) -> None:
        self._config = work.experiment.embedder
        self._features: NDArray[np.float16] = np.load(work.features, mmap_mode="r")
        self._rows = rows
        columns = work.index.columns
        self._columns = columns
        lat, lon = np.asarray(columns["lat"]), np.asarray(columns["lon"])
        self._places = Places(lat[rows], lon[rows], rows, self._config.positive_km)
        network = RetrievalNetwork(self._features.shape[1], self._config)
        if self._config.start == "features":
            sample = rows[:: max(1, len(rows) // STARTING_ROWS)][:STARTING_ROWS]
            network.module.begin_as_features(torch.from_numpy(self._features[sample].astype(np.float32)))
        self.module: nn.Module = network
        self._validation = rows_with_features(work, self._features, Part.VALIDATION)[:512]

    def load(self, draw: Draw) -> Batch:
        """A pass: queries, their partners and random others, and who is of whose place."""
        rng = np.random.default_rng(draw.seed)
        at = np.searchsorted(self._rows, draw.rows)
        others = self._rows[rng.integers(0, len(self._rows), self._config.negatives)]
        return self._batch(draw.rows, np.unique(np.concatenate([self._places.partners(at, rng), others])))

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """All parameters alike."""
        parameters = list(self.module.parameters())
        return [{"params": parameters, "lr": config.learning_rate, "weight_decay": config.weight_decay}]

    def validate(self, module: nn.Module, device: torch.device) -> float:
        """The loss of rows set aside against a fixed sample of the training rows."""
        if not len(self._validation):
            return float("nan")
        keys = self._rows[:: max(1, len(self._rows) // 8192)]
        with torch.no_grad():
            return float(module(*(part.to(device) for part in self._batch(self._validation, keys))))

    def _batch(self, queries: NDArray[np.int64], keys: NDArray[np.int64]) -> Batch:
        positive, excluded = self._relation(queries, keys)
        query, key = (torch.from_numpy(self._features[rows].astype(np.float32)) for rows in (queries, keys))
        return query, key, torch.from_numpy(positive), torch.from_numpy(excluded)

    def _relation(
        self, queries: NDArray[np.int64], keys: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        columns = self._columns
        a, b = (latlon_to_xyz(columns["lat"][rows], columns["lon"][rows]) for rows in (queries, keys))
        away_km = EARTH_RADIUS_KM * np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (a @ b.T)))  # the chord: close enough nearby
        own = columns["group"][queries][:, None] == columns["group"][keys][None, :]
        positive = (away_km <= self._config.positive_km) & ~own
        return positive.astype(np.float32), own


def run_embedder(work: Work, processes: Processes, progress: Progress) -> RetrievalModule:
    """Extract the features that are missing, then train, or go on."""
    experiment = work.experiment
    extract_features(work, processes, progress)
    features: NDArray[np.float16] = np.load(work.features, mmap_mode="r")
    rows = rows_with_features(work, features, Part.TRAIN)
    torch.manual_seed(experiment.seed)
    task = EmbedderTask(work, rows)
    plan = Plan(rows, experiment.embedder.train, experiment.seed, processes.rank, processes.world)
    network = Trainer(task, plan, work.stage("embedder"), processes, progress).run()
    assert isinstance(network, RetrievalNetwork)
    return network.module


def trained_embedder(work: Work, dim: int) -> RetrievalModule:
    """The module of a finished stage.

    Raises:
        InvalidInput: the stage has not been run.
    """
    network = RetrievalNetwork(dim, work.experiment.embedder)
    fill_best(network, work, "embedder")
    return network.module.eval()
