"""From a raster of the Earth to a bundle that locates pictures of it: the stages in order, each resumed from its work folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from geofix import bundle as files
from geofix.bundle import Bundle, sha256_of
from geofix.cells import Cells
from geofix.decision import Strategy
from geofix.errors import ConfigurationError
from geofix.evaluation import gain
from geofix.geo import latlon_to_xyz
from geofix.local import LocalEngine
from geofix_training.backbone import SIZE, Levels
from geofix_training.calibrate import calibrate, domain_gate
from geofix_training.card import Figures, model_card
from geofix_training.config import GalleryLevel, OrbitConfig
from geofix_training.crops import View, land_grid
from geofix_training.domain import fit_domain
from geofix_training.export import Backbone, Classifier, Embedder, cosine_agreement, export, store_small
from geofix_training.features import Crops, Plan, extract, foreign_features, random_views
from geofix_training.fit_heads import Located, fit_mixture_head, fit_retrieval_module
from geofix_training.heads import MixtureHead, RetrievalModule
from geofix_training.partition import StopRule, make_cells, split
from geofix_training.raster import Raster
from geofix_training.reduction import Reduction, fit_reduction
from geofix_training.tune import answer, tune
from geofix_training.write_bundle import finish, write_gallery

TUNING_SEED, CALIBRATION_SEED = 7_000, 8_000
"""Added to the config's seed: held-out crops are of places that training has not drawn."""


class Orbit:
    """One run: a raster and a config, a work folder for what takes long, an output directory for the bundle.

    Raises:
        ConfigurationError: the work folder belongs to another raster or config.
    """

    def __init__(self, raster: Raster, raster_path: Path, config: OrbitConfig, work: Path, console: Console) -> None:
        self.raster, self.config, self.work, self.console = raster, config, work, console
        self.raster_sha256 = sha256_of(raster_path)
        work.mkdir(parents=True, exist_ok=True)
        self._claim_work_folder()
        self.levels_path = work / "levels.onnx"

    def run(self, out: Path) -> Bundle:
        """Every stage; those whose result is in the work folder are skipped."""
        config = self.config
        torch.manual_seed(config.seed)
        levels = Levels()
        if not self.levels_path.exists():
            export(levels, torch.zeros(2, 3, SIZE, SIZE), self.levels_path, ["image"], ["raw"])
        crops = self._crops("train", config.crops.count, config.crops.footprint_km, config.seed)
        gallery = self._gallery()
        reduction = fit_reduction([crops.raw, gallery.raw], config.feature_dim, config.seed)
        located, keys = _located(crops, reduction), _located(gallery, reduction)
        cells = self._cells(crops)
        head = self._mixture_head(located, cells)
        module = self._retrieval_module(located, keys)
        trained = Cells(
            cells.s2_tokens, head.unit_means().detach().numpy(), head.log_kappa.exp().detach().numpy(), cells.images
        )
        out.mkdir(parents=True, exist_ok=True)
        nothing = foreign_features(config.foreign, self.levels_path, config.seed)
        domain = fit_domain(reduction(crops.raw[: 10 * config.foreign]), reduction(nothing))
        self._models(out, levels, reduction, Classifier(head, domain), module, reduction(crops.raw[:64]))
        with torch.no_grad():
            embedding = np.concatenate(
                [module(torch.from_numpy(part)).numpy() for part in np.array_split(keys.feature, 16)]
            )
        write_gallery(out / files.GALLERY, gallery, embedding, trained, config.attribution)
        return self._calibrated(finish(out, config, trained, None, None), trained, reduction)

    def _calibrated(self, bundle: Bundle, cells: Cells, reduction: Reduction) -> Bundle:
        config, held_out = self.config, self.config.held_out
        engine = LocalEngine(bundle)
        tuning = self._crops("tuning", held_out.tuning, held_out.footprint_km, config.seed + TUNING_SEED)
        heads = engine.heads(reduction(tuning.raw))
        rule = tune(engine, heads, tuning.lat, tuning.lon, config.decision)
        self.console.print(f"decision rule: {rule.model_dump()}")
        truth = latlon_to_xyz(tuning.lat, tuning.lon)
        by = {s: answer(engine, heads, truth, rule, s) for s in Strategy}
        for strategy, result in by.items():
            median = float(np.median(result.error_km))
            self.console.print(f"{strategy:15} within 200 km {result.within(200):.1%}, median {median:.0f} km")
        calibration_crops = self._crops(
            "calibration", held_out.calibration, held_out.footprint_km, config.seed + CALIBRATION_SEED
        )
        calibration_heads = engine.heads(reduction(calibration_crops.raw))
        calibration_truth = latlon_to_xyz(calibration_crops.lat, calibration_crops.lon)
        answers = answer(engine, calibration_heads, calibration_truth, rule, Strategy.POSTERIOR)
        gate = domain_gate(answers, config.domain_quantile)
        low, high = held_out.footprint_km
        source = f"{held_out.calibration} damaged crops of {low:.0f} to {high:.0f} km at places of their own"
        calibration = calibrate(answers, rule, gate, source)
        over_cells = gain(by[Strategy.POSTERIOR].error_km, by[Strategy.CLASSIFICATION].error_km)
        card = model_card(config, self.raster_sha256, Figures(by, over_cells, len(cells), len(engine.gallery.ids)))
        return finish(bundle.directory, config, cells, calibration, card)

    def _crops(self, name: str, count: int, footprint_km: tuple[float, float], seed: int) -> Crops:
        views = random_views(self.raster, count, footprint_km, self.config.crops.rotation_deg, seed)
        return self._extract(name, Plan(views, damaged=True, seed=seed))

    def _gallery(self) -> Crops:
        views = [view for level in self.config.gallery for view in self._grid(level)]
        return self._extract("gallery", Plan(tuple(views), damaged=False, seed=0))

    def _grid(self, level: GalleryLevel) -> list[View]:
        lat, lon = land_grid(self.raster, level.spacing_km)
        return [View(float(a), float(o), level.footprint_km, 0.0) for a, o in zip(lat, lon, strict=True)]

    def _extract(self, name: str, plan: Plan) -> Crops:
        with self._bar(f"crops: {name}") as progress:
            return extract(self.raster, plan, self.levels_path, self.work / name, progress)

    def _cells(self, crops: Crops) -> Cells:
        stop = StopRule(1, self.config.cells)
        partition = split(crops.lat, crops.lon, stop, self.config.min_images)
        return make_cells(partition, crops.lat, crops.lon)

    def _mixture_head(self, located: Located, cells: Cells) -> MixtureHead:
        path = self.work / "mixture_head.pt"
        config = self.config.head
        if path.exists():
            empty = MixtureHead(
                located.feature.shape[1], torch.zeros(len(cells), 3), torch.ones(len(cells)), config.hidden
            )
            empty.load_state_dict(torch.load(path, weights_only=True))
            return empty.eval()
        with self._bar("mixture head") as progress:
            head = fit_mixture_head(located, cells, config, self.work / "mixture_head.csv", progress, self.config.seed)
        _save(head, path)
        return head

    def _retrieval_module(self, located: Located, keys: Located) -> RetrievalModule:
        path = self.work / "retrieval_module.pt"
        config = self.config.embedder
        if path.exists():
            empty = RetrievalModule(located.feature.shape[1], config.hidden, config.embedding_dim)
            empty.load_state_dict(torch.load(path, weights_only=True))
            return empty.eval()
        with self._bar("retrieval module") as progress:
            log = self.work / "retrieval_module.csv"
            module = fit_retrieval_module(located, keys, config, log, progress, self.config.seed)
        _save(module, path)
        return module

    def _models(
        self,
        out: Path,
        levels: Levels,
        reduction: Reduction,
        classifier: Classifier,
        module: RetrievalModule,
        features: NDArray[np.float32],
    ) -> None:
        from geofix.onnx import OnnxSession

        example = torch.from_numpy(features)
        images = torch.rand(8, 3, SIZE, SIZE) * 2 - 1
        parts = (
            (Backbone(levels, reduction), images, files.BACKBONE, "image", ["feature"]),
            (classifier, example, files.CLASSIFIER, "feature", ["log_weights", "domain_score"]),
            (Embedder(module), example, files.EMBEDDER, "feature", ["embedding"]),
        )
        for network, inputs, name, input_name, outputs in parts:
            with torch.no_grad():
                result = network.eval()(inputs)
            expected = (result if isinstance(result, torch.Tensor) else result[0]).numpy()
            export(network, inputs, out / name, [input_name], outputs)
            store_small(out / name)
            got = OnnxSession(out / name).run(inputs.numpy())[outputs[0]]
            self.console.print(
                f"{name}: float16 weights agree with torch to cosine {cosine_agreement(got, expected):.6f}"
            )

    def _claim_work_folder(self) -> None:
        key = {
            "raster": self.raster_sha256,
            "config": self.config.model_dump(mode="json", exclude={"crops": {"count"}}),
        }
        text = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        path = self.work / "key"
        if path.exists() and path.read_text() != text:
            raise ConfigurationError(
                f"{self.work} holds the work of another raster or config: name another --work folder"
            )
        path.write_text(text)

    def _bar(self, title: str) -> _Bar:
        return _Bar(title, self.console)


class _Bar:
    """A progress bar as the callable that the stages report to."""

    def __init__(self, title: str, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(title, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _located(crops: Crops, reduction: Reduction) -> Located:
    return Located(reduction(crops.raw)[:, :-1], crops.lat, crops.lon, crops.footprint_km)


def _save(module: torch.nn.Module, path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(module.state_dict(), partial)
    partial.replace(path)
