"""`geofix-train export`: the trained parts as a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geofix import bundle as files
from geofix.bundle import Bundle, check_new, write_manifest
from geofix.calibration import Calibration
from geofix.cells import Cells
from geofix.geo import latlon_to_xyz
from geofix.images import Preprocessing
from geofix_training.augment import augmented
from geofix_training.data.parts import Part
from geofix_training.engine.loop import Progress
from geofix_training.export import export, store_small
from geofix_training.fold_report import markdown
from geofix_training.frozen import FrozenBackbone, Mix
from geofix_training.gallery_file import GalleryFile
from geofix_training.heads import MixtureHead, RetrievalModule
from geofix_training.stages.adapt import trained_tails
from geofix_training.stages.classifier import ClassifierNetwork, trained_classifier
from geofix_training.stages.embedder import trained_embedder
from geofix_training.stages.statistics import depths_of, white_of
from geofix_training.stages.work import Work, rows_with_features

CHUNK = 4096
"""Gallery rows embedded and written at a time."""
NO_PICTURES = Preprocessing(size=224, fit="squash", resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
"""What a manifest must say of pictures where a bundle takes none."""


class Scores(nn.Module):
    """Feature to log mixture weights; no gate is trained here, so every domain score is 0."""

    def __init__(self, head: MixtureHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, d) to log mixture weights (n, cells) and domain scores (n,)."""
        return self.head(feature), 0 * feature[:, 0]


def calibration_of(work: Work) -> Calibration | None:
    """What `calibrate` has found, if it was run."""
    path = work.folder / files.CALIBRATION
    return Calibration.model_validate_json(path.read_bytes()) if path.exists() else None


def run_export(
    work: Work, out: Path, calibration: Calibration | None, progress: Progress, *, whole: bool = False
) -> Bundle:
    """Write a bundle to a new or empty directory; without a calibration its answers carry no radius.

    `whole`: for a measurement, with what must not be published in the gallery too.

    Raises:
        InvalidInput: a stage is missing, or `out` holds something.
    """
    check_new(out)
    experiment = work.experiment
    network = trained_classifier(work)
    module = trained_embedder(work, network.dim)
    out.mkdir(parents=True, exist_ok=True)
    feature = torch.zeros(2, network.dim)
    source, example = "feature", feature
    if experiment.backbone is not None:
        size = experiment.backbone.preprocessing.size
        source, example = "image", torch.zeros(2, 3, size, size)
    export(_backbone(work, network), example, out / files.BACKBONE, [source], ["feature"])
    export(Scores(network.head), feature, out / files.CLASSIFIER, ["feature"], ["log_weights", "domain_score"])
    export(module, feature, out / files.EMBEDDER, ["feature"], ["embedding"])
    for name in (files.BACKBONE, files.CLASSIFIER, files.EMBEDDER):
        store_small(out / name)
    means, kappas = network.head.unit_means().detach().numpy(), network.head.log_kappa.exp().detach().numpy()
    cells = Cells(work.cells.s2_tokens, means, kappas, work.cells.images)
    images = _write_gallery(work, module, cells, out / files.GALLERY, progress, whole=whole)
    Cells(cells.s2_tokens, means, kappas, images).write(out / files.CELLS)
    rule = experiment.decision
    if calibration is not None:
        rule = calibration.rule
        (out / files.CALIBRATION).write_text(calibration.model_dump_json(indent=1) + "\n")
    (out / files.MODEL_CARD).write_text(_card(work, len(cells), int(images.sum()), calibration))
    write_manifest(
        out,
        name=experiment.name,
        license=experiment.license,
        description=experiment.description,
        preprocessing=experiment.backbone.preprocessing if experiment.backbone is not None else NO_PICTURES,
        takes="image" if experiment.backbone is not None else "feature",
        feature_dim=network.dim,
        embedding_dim=module.out_dim,
        cell_count=len(cells),
        decision=rule,
    )
    return Bundle.load(out)


def _write_gallery(
    work: Work, module: RetrievalModule, cells: Cells, path: Path, progress: Progress, *, whole: bool
) -> NDArray[np.int64]:
    """All images that train or validate; those set aside for calibration and tests must not find themselves."""
    index, features = work.index, np.load(work.features, mmap_mode="r")
    config = work.experiment.gallery
    parts = [rows_with_features(work, features, part) for part in (Part.TRAIN, Part.VALIDATION)]
    rows = np.sort(np.concatenate(parts))
    if config.published_only and not whole:
        rows = rows[np.asarray(index.columns["published"])[rows] == 1]
    lat, lon = (np.asarray(index.columns[name], float) for name in ("lat", "lon"))
    if config.decimals is not None:
        lat, lon = lat.round(config.decimals), lon.round(config.decimals)

    def embed(part: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.no_grad():
            embedding: NDArray[np.float32] = module(torch.from_numpy(features[part].astype(np.float32))).numpy()
        return embedding

    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    held = None
    if config.augment is not None:
        own = np.concatenate([embed(part).astype(np.float16) for part in chunks])
        held = augmented(own, latlon_to_xyz(lat[rows], lon[rows]), config.augment)
    with GalleryFile(path, module.out_dim, cells, config.fraction_bits) as gallery:
        for number, part in enumerate(chunks):
            keep = gallery.new(features[part].astype(np.float32))
            kept = part[keep]
            embedding = embed(kept) if held is None else held[number * CHUNK + keep].astype(np.float32)
            pictures = [index.link(int(row)) for row in kept]
            gallery.write(keep, embedding, lat[kept], lon[kept], pictures, work.experiment.attribution)
            progress(min((number + 1) * CHUNK, len(rows)), len(rows))
    return gallery.images


def _backbone(work: Work, network: ClassifierNetwork) -> nn.Module:
    config = work.experiment.backbone
    if config is None or not config.frozen:
        return network.backbone
    tails = trained_tails(work) if config.adapt is not None else None
    return FrozenBackbone(depths_of(work), white_of(work), Mix.of(config), tails)


def _card(work: Work, cells: int, images: int, calibration: Calibration | None) -> str:
    experiment = work.experiment
    report = work.index.meta["report"]
    left_out = ", ".join(f"{count:,} {why}" for why, count in report["left_out"].items()) or "none"
    if calibration is None or calibration.radius is None:
        radii = "None: its answers say UNCALIBRATED."
    else:
        radii = f"Fitted on {calibration.queries:,} {calibration.source}."
    if calibration is None or (reached := calibration.abstention) is None:
        gate = "No gate: every image is answered as localizable."
    else:
        gate = (
            f"Localizable: {reached.precision:.0%} within {reached.within_km:g} km were asked for; of {reached.queries:,} "
            f"images that had no part in choosing the threshold, {reached.answered:.1%} are, "
            f"and {reached.right:.1%} of those are right."
        )
    train = work.rows(Part.TRAIN)
    groups = len(np.unique(np.asarray(work.index.columns["group"])[train]))
    about = f"\n{experiment.about.strip()}\n" if experiment.about else ""
    folds = ""
    if work.folds.exists():
        folds = f"\n## How good it is\n\n{markdown(json.loads(work.folds.read_text()))}\n"
    return f"""# {experiment.name}

{experiment.description}
{about}
## What it has seen

- {len(train):,} of {report["kept"]:,} rows, in {groups:,} groups ({cells:,} cells); left out: {left_out}.
- Gallery: {images:,} images.
- Radii: {radii}
- {gate}
{folds}
## What it must not be used for

It must not be used to decide anything about a person; RESPONSIBLE_USE.md of geofix says more.

```json
{json.dumps(experiment.model_dump(mode="json"), indent=1)}
```
"""
