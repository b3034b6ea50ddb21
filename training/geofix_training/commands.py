"""`geofix-train partition`, `classifier` and the rest: from a collection to a bundle, stage by stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.errors import InvalidInput

if TYPE_CHECKING:
    from geofix_training.engine.processes import Processes
    from geofix_training.stages.work import Work

WorkOption = Annotated[Path, typer.Option("--work", metavar="DIR", help="work folder; each stage goes on there")]
STOPPED = 143
"""Exit code after SIGTERM, as a shell would report it: what follows in a script does not run."""


ConfigOption = Annotated[Path, typer.Option(help="the experiment, YAML")]
ManifestOption = Annotated[Path | None, typer.Option(help="CSV or Parquet: id, path (or url), lat, lon, group")]
ImagesOption = Annotated[Path | None, typer.Option(help="folder that paths are relative to; default: the manifest's")]
ShardsOption = Annotated[Path | None, typer.Option(help="folder of WebDataset shards, in place of a manifest")]
FeaturesOption = Annotated[Path | None, typer.Option(help="NPZ: features, lat, lon, ids, group; in place of images")]
OutOption = Annotated[Path, typer.Option(help="directory for the bundle; new or empty")]
FOLDS = typer.Option(min=2, max=20, help="folds of whole groups")


def partition(
    config: ConfigOption,
    work: WorkOption,
    manifest: ManifestOption = None,
    images: ImagesOption = None,
    shards: ShardsOption = None,
    features: FeaturesOption = None,
) -> None:
    """Index a collection, set aside what is held out, and divide the Earth into cells."""
    from geofix_training.experiment import read_experiment
    from geofix_training.stages.partition import Collection, run_partition

    if sum(source is not None for source in (manifest, shards, features)) != 1:
        raise typer.BadParameter("name one of --manifest, --shards and --features")
    done = run_partition(read_experiment(config), Collection(manifest, images, shards, features), work)
    report = done.index.meta["report"]
    print(f"{report['kept']:,} rows, {len(done.cells):,} cells")
    for reason, count in report["left_out"].items():
        print(f"left out: {count:,} {reason}, such as {', '.join(report['examples'][reason])}")


def adapt(work: WorkOption) -> None:
    """Teach the last layers of a frozen backbone by contrast; for experiments with `backbone.adapt`, before the classifier."""
    from geofix_training.stages.adapt import run_adapt

    with _running(work, "adapt") as (loaded, processes, progress):
        run_adapt(loaded, processes, progress)


def classifier(work: WorkOption) -> None:
    """Train backbone and mixture head (features: the head alone). Under torchrun: python -m geofix_training classifier."""
    from geofix_training.stages.classifier import run_classifier

    with _running(work, "classifier") as (loaded, processes, progress):
        run_classifier(loaded, processes, progress)


def embedder(work: WorkOption) -> None:
    """Extract the features, then train the retrieval module on them."""
    from geofix_training.stages.embedder import run_embedder

    with _running(work, "embedder") as (loaded, processes, progress):
        run_embedder(loaded, processes, progress)


def calibrate(work: WorkOption) -> None:
    """Choose the decision rule and fit the radii on what was set aside for that."""
    from geofix_training.stages.calibrate import run_calibrate

    with _running(work, "calibrate") as (loaded, _processes, progress):
        done = run_calibrate(loaded, progress)
        print(f"decision rule: {done.rule.model_dump_json()}; radii on {done.queries:,} images")


def cross_validate(work: WorkOption, folds: Annotated[int, FOLDS] = 5) -> None:
    """Train and answer once for each fold of whole groups; fit the radii and the gate of `export` on those answers."""
    import json

    from geofix_training.fold_report import markdown, record
    from geofix_training.stages.cross_validate import calibrate_over_folds, run_folds

    with _running(work, "folds") as (loaded, processes, progress):
        answers = run_folds(loaded, folds, processes, progress)
        if processes.main:
            told = record(loaded, answers, calibrate_over_folds(loaded, answers))
            loaded.folds.write_text(json.dumps(told, indent=1) + "\n")
            print(markdown(told), end="")


def export(work: WorkOption, out: OutOption) -> None:
    """Write the bundle; without `calibrate` or `cross-validate` before it its answers carry no radius."""
    from geofix_training.stages.export import calibration_of, run_export

    with _running(work, "gallery") as (loaded, _processes, progress):
        found = calibration_of(loaded)
        bundle = run_export(loaded, out, found, progress)
        print(f"{bundle.version} in {out}" + ("" if found else "; without calibration: answers say UNCALIBRATED"))


def run(
    config: ConfigOption,
    work: WorkOption,
    out: OutOption,
    manifest: ManifestOption = None,
    images: ImagesOption = None,
    shards: ShardsOption = None,
    features: FeaturesOption = None,
    folds: Annotated[
        int, typer.Option(min=0, max=20, help="0: radii from what the experiment sets aside; else from so many folds")
    ] = 0,
) -> None:
    """All stages, one after the other, from a collection to a bundle; started again, it goes on where it was."""
    from geofix_training.experiment import read_experiment

    experiment = read_experiment(config)
    set_aside = experiment.held_out.calibration + experiment.held_out.calibration_blocks
    if folds == 1 or (not folds and not set_aside):
        raise typer.BadParameter(
            f"{experiment.name} needs images that its radii are fitted on: held_out.calibration, or --folds of 2 or more"
        )
    partition(config, work, manifest, images, shards, features)
    if folds:
        cross_validate(work, folds)
    if experiment.backbone is not None and experiment.backbone.adapt is not None:
        adapt(work)
    classifier(work)
    embedder(work)
    if not folds:
        calibrate(work)
    export(work, out)


@contextlib.contextmanager
def _running(folder: Path, title: str) -> Iterator[tuple[Work, Processes, Callable[[int, int], None]]]:
    """The work, this process among the others, and a bar; what could not be read is told at the end."""
    from geofix_training.data.images import unreadable_rows
    from geofix_training.engine.loop import Stopped
    from geofix_training.engine.processes import joined
    from geofix_training.progress import bar
    from geofix_training.stages.work import Work

    work = Work(folder)
    with joined() as processes:
        try:
            with bar(title, shown=processes.main) as progress:
                yield work, processes, progress
        except Stopped as stopped:
            if processes.main:
                typer.echo(str(stopped), err=True)
            raise typer.Exit(STOPPED) from stopped
        except FileNotFoundError as error:
            raise InvalidInput(f"{error.filename} is not there: run the stages in order, partition first") from error
        if processes.main and (lost := len(unreadable_rows(work.unreadable))):
            typer.echo(f"{lost:,} images could not be read: {work.unreadable}", err=True)


def register(app: typer.Typer) -> None:
    """Add the stages to `geofix-train`."""
    for command in (partition, adapt, classifier, embedder, calibrate, cross_validate, export, run):
        app.command()(command)
