"""`geofix-train partition`: the index of a collection, what is set aside, and the cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from geofix import bundle as files
from geofix.bundle import sha256_of
from geofix.cells import Cells
from geofix.errors import ConfigurationError, InvalidInput
from geofix.features import Features, read_features
from geofix_training.data.index import Block, build
from geofix_training.data.manifest import feature_blocks, shard_blocks, table_blocks
from geofix_training.data.parts import Part, assign_parts
from geofix_training.data.screening import Screening
from geofix_training.experiment import Experiment, ManifestConfig, PartitionConfig
from geofix_training.partition import StopRule, make_cells, split
from geofix_training.stages.work import Work, save_array


@dataclass(frozen=True)
class Collection:
    """Where a collection is; exactly one of `manifest`, `shards` and `features` is set.

    Attributes:
        manifest: a CSV or Parquet table.
        images: the folder that its paths are relative to; none: the manifest's own.
        shards: a folder of WebDataset shards, *.tar.
        features: an NPZ file of features.
    """

    manifest: Path | None = None
    images: Path | None = None
    shards: Path | None = None
    features: Path | None = None

    def key(self) -> dict[str, Any]:
        """What tells it from another: the file's hash, or the shards' names and sizes.

        Raises:
            InvalidInput: it is not there.
        """
        if self.shards is not None:
            return {path.name: path.stat().st_size for path in self._shards()}
        path = self.manifest or self.features
        if path is None or not path.is_file():
            raise InvalidInput(f"there is no file {path}")
        return {"sha256": sha256_of(path)}

    def meta(self) -> dict[str, Any]:
        """What the index must know to find the images."""
        folder = self.images or (self.manifest.parent if self.manifest else None)
        return {
            "images": str(folder.resolve()) if folder else "",
            "shards": [str(path.resolve()) for path in self._shards()],
            "features": self.features is not None,
        }

    def blocks(self, screening: Screening, features: Features | None, config: ManifestConfig) -> Iterator[Block]:
        """Its rows that may be trained on."""
        if features is not None:
            return feature_blocks(features, screening)
        if self.manifest is not None:
            return table_blocks(self.manifest, screening, config)
        return shard_blocks(self._shards(), screening)

    def _shards(self) -> list[Path]:
        if self.shards is None:
            return []
        found = sorted(self.shards.glob("*.tar"))
        if not found:
            raise InvalidInput(f"there is no shard *.tar in {self.shards}")
        return found


def run_partition(experiment: Experiment, collection: Collection, folder: Path) -> Work:
    """Index, set aside, partition; what is in the folder already is kept.

    Raises:
        InvalidInput: the collection cannot be used, or is too small for the cells.
        ConfigurationError: the folder belongs to other work, or the experiment does not fit the collection.
    """
    if (experiment.backbone is None) != (collection.features is not None):
        raise ConfigurationError(
            "an experiment with a backbone takes --manifest or --shards, one without takes --features: "
            f"{experiment.name} has {'no' if experiment.backbone is None else 'a'} backbone"
        )
    if collection.manifest is None and experiment.manifest != ManifestConfig():
        raise ConfigurationError(f"{experiment.name} says how to read a manifest: name one with --manifest")
    work = Work.claim(folder, experiment, collection.key())
    if not (folder / "index" / "index.json").exists():
        _index(work, collection)
    index = work.index
    columns = index.columns
    if not (folder / "parts.npy").exists():
        parts = assign_parts(columns["group"], columns["lat"], columns["lon"], experiment.held_out, experiment.seed)
        work.save_parts(parts)
        if collection.features is not None:
            _write_tests(work, read_features(collection.features))
    if not (folder / files.CELLS).exists():
        write_cells(work)
    return work


def initial_cells(cells: Cells, config: PartitionConfig) -> Cells:
    """The cells with the kappas that training starts from: a fixed one, or the cell's spread within limits.

    The published kappa starts at e^16, about 2 km, whose gradient is gone 15 km away under the published floor of 1e-9;
    a broad start (e^6 to e^10, 320 to 43 km) reaches further.
    """
    if config.log_kappa is not None:
        return replace(cells, kappa=np.full(len(cells), np.exp(config.log_kappa)))
    return replace(cells, kappa=np.clip(cells.kappa, *np.exp(config.log_kappa_range)))


def _index(work: Work, collection: Collection) -> None:
    features = read_features(collection.features) if collection.features is not None else None
    screening = Screening(str(collection.manifest or collection.shards or collection.features))
    report: dict[str, Any] = {}

    def blocks() -> Iterator[Block]:
        yield from collection.blocks(screening, features, work.experiment.manifest)
        report.update(screening.report())

    index = build(work.folder / "index", blocks(), collection.meta() | {"report": report})
    if features is not None:
        save_array(work.features, features.feature[np.asarray(index.columns["offset"])].astype(np.float16))


def write_cells(work: Work) -> None:
    """Divide the Earth by the rows that train.

    Raises:
        InvalidInput: they are too few.
    """
    config, rows, index = work.experiment.partition, work.rows(Part.TRAIN), work.index
    if len(rows) < config.max_cells and config.max_images <= 1:
        raise InvalidInput(
            f"there are {len(rows)} images to train on for {config.max_cells} cells: add images, or lower partition.max_cells"
        )
    lat, lon = np.asarray(index.columns["lat"])[rows], np.asarray(index.columns["lon"])[rows]
    partition = split(lat, lon, StopRule(config.max_images, config.max_cells), config.min_images)
    if len(partition.s2_ids) < 2:
        raise InvalidInput(
            f"all {len(rows)} images to train on lie in one cell: lower partition.min_images or add images"
        )
    initial_cells(make_cells(partition, lat, lon), config).write(work.folder / files.CELLS)


def _write_tests(work: Work, features: Features) -> None:
    """Held-out rows as files of their own, shuffled, so that the first n are a fair sample."""
    offset = np.asarray(work.index.columns["offset"])
    random, blocks = work.rows(Part.TEST), work.rows(Part.TEST_BLOCKS)
    files_of = {"test.npz": random, "test_blocks.npz": blocks, "test_all.npz": np.concatenate([random, blocks])}
    for name, held_out in files_of.items():
        rows = np.random.default_rng(work.experiment.seed).permutation(held_out)
        if len(rows):
            features.rows(offset[rows]).write(work.folder / name)
