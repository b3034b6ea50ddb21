"""The training loops of the two heads, over features that were extracted before."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import BallTree
from torch import Tensor, nn

from geofix.cells import Cells
from geofix.geo import EARTH_RADIUS_KM, FloatArray, latlon_to_xyz
from geofix_training.config import EmbedderConfig, HeadConfig
from geofix_training.heads import MixtureHead, RetrievalModule, multi_positive_loss

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Located:
    """Features (n, d) with their places in degrees, (n,), and footprints in km, (n,)."""

    feature: NDArray[np.float32]
    lat: FloatArray
    lon: FloatArray
    footprint_km: FloatArray

    def __len__(self) -> int:
        return len(self.lat)

    def rows(self, index: NDArray[np.int64]) -> Located:
        """The rows at `index`."""
        return Located(self.feature[index], self.lat[index], self.lon[index], self.footprint_km[index])


def fit_mixture_head(
    crops: Located, cells: Cells, config: HeadConfig, log_path: Path, progress: Progress, seed: int
) -> MixtureHead:
    """Minimise −log p of the MvMF over the crops; losses go to a CSV."""
    torch.manual_seed(seed)
    head = MixtureHead(
        crops.feature.shape[1],
        torch.from_numpy(cells.xyz),
        torch.from_numpy(np.clip(cells.kappa, *config.kappa_range)),
        config.hidden,
        config.dropout,
    )
    xyz = torch.from_numpy(latlon_to_xyz(crops.lat, crops.lon))
    feature = torch.from_numpy(crops.feature)
    steps = config.epochs * math.ceil(len(crops) / config.batch)
    slow = [head.means, head.log_kappa]
    fast = [p for p in head.parameters() if all(p is not q for q in slow)]
    groups = [
        {"params": fast, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": slow, "lr": config.learning_rate, "weight_decay": 0.0},
    ]
    rng = np.random.default_rng(seed)

    def loss_of(rows: Tensor) -> Tensor:
        noisy = feature[rows] + config.feature_noise * torch.randn(len(rows), feature.shape[1])
        return -head.log_density(head(noisy), xyz[rows]).mean()

    _optimise(head, groups, steps, lambda: _epochs(len(crops), config.batch, rng), loss_of, log_path, progress)
    return head.eval()


def fit_retrieval_module(
    crops: Located, gallery: Located, config: EmbedderConfig, log_path: Path, progress: Progress, seed: int
) -> RetrievalModule:
    """Bring damaged crops near the clean gallery crops of their place and scale, away from all others in the batch."""
    torch.manual_seed(seed)
    module = RetrievalModule(crops.feature.shape[1], config.hidden, config.embedding_dim)
    rng = np.random.default_rng(seed)
    nearest = _nearest_of_scale(crops, gallery, config.nearest)
    steps = config.epochs * math.ceil(len(crops) / config.batch)
    groups = [{"params": list(module.parameters()), "lr": config.learning_rate, "weight_decay": config.weight_decay}]

    def loss_of(rows: Tensor) -> Tensor:
        index = rows.numpy()
        chosen = nearest[index, rng.integers(0, nearest.shape[1], len(index))]
        others = rng.integers(0, len(gallery), config.negatives)
        columns = np.unique(np.concatenate([chosen, others]))
        queries, keys = crops.rows(index), gallery.rows(columns)
        noisy = torch.from_numpy(queries.feature)
        noisy = noisy + config.feature_noise * torch.randn(noisy.shape)
        similarity = module(noisy) @ module(torch.from_numpy(keys.feature)).T
        return multi_positive_loss(similarity, torch.from_numpy(_same_place(queries, keys)), config.temperature)

    _optimise(module, groups, steps, lambda: _epochs(len(crops), config.batch, rng), loss_of, log_path, progress)
    return module.eval()


def _same_place(queries: Located, keys: Located) -> NDArray[np.float32]:
    """How much each key shows the query's place at its scale, (n, m), 0 to 1: Gaussians of distance and of scale."""
    a, b = latlon_to_xyz(queries.lat, queries.lon), latlon_to_xyz(keys.lat, keys.lon)
    away_km = EARTH_RADIUS_KM * np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (a @ b.T)))  # the chord: close enough nearby
    width_km = 0.12 * queries.footprint_km[:, None] + 15.0
    scale = np.log(queries.footprint_km[:, None] / keys.footprint_km[None, :]) / 0.6
    return np.exp(-0.5 * (away_km / width_km) ** 2 - 0.5 * scale**2).astype(np.float32)


def _nearest_of_scale(crops: Located, gallery: Located, count: int) -> NDArray[np.int64]:
    """For each crop its nearest gallery rows, (n, count), among those of the footprint nearest to its own."""
    out = np.empty((len(crops), count), np.int64)
    footprints = np.unique(gallery.footprint_km)
    closest = np.abs(np.log(crops.footprint_km[:, None] / footprints[None, :])).argmin(axis=1)
    for index, footprint in enumerate(footprints):
        rows, wanted = np.flatnonzero(gallery.footprint_km == footprint), np.flatnonzero(closest == index)
        if len(wanted) == 0:
            continue
        tree = BallTree(np.radians(np.stack([gallery.lat[rows], gallery.lon[rows]], axis=1)), metric="haversine")
        places = np.radians(np.stack([crops.lat[wanted], crops.lon[wanted]], axis=1))
        found = tree.query(places, k=min(count, len(rows)), return_distance=False)
        out[wanted] = rows[found[:, np.arange(count) % found.shape[1]]]
    return out


def _epochs(count: int, batch: int, rng: np.random.Generator) -> Iterator[Tensor]:
    while True:
        order = rng.permutation(count)
        for start in range(0, count, batch):
            yield torch.from_numpy(order[start : start + batch])


def _optimise(
    module: nn.Module,
    groups: list[dict[str, object]],
    steps: int,
    batches: Callable[[], Iterator[Tensor]],
    loss_of: Callable[[Tensor], Tensor],
    log_path: Path,
    progress: Progress,
) -> None:
    optimiser = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [float(str(g["lr"])) for g in groups], total_steps=steps, pct_start=min(0.1, 100 / steps)
    )
    module.train()
    with log_path.open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["step", "loss"])
        for step, rows in zip(range(1, steps + 1), batches(), strict=False):
            loss = loss_of(rows)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if step % 20 == 0 or step == steps:
                log.writerow([step, f"{float(loss.detach()):.5f}"])
                progress(step, steps)
