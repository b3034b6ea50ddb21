"""`geofix gallery`: the versions of a gallery, and one's own images in them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.cli.gallery_access import AdminOption, BundleOption, ClassifierOption, DataDirOption, EmbedderOption

if TYPE_CHECKING:
    from geofix.bundle import Bundle
    from geofix.gallery.admin import GalleryAdmin
    from geofix.gallery.layout import GalleryInfo
    from geofix.ingest.report import Report

app = typer.Typer(
    name="gallery",
    help="Versions of the gallery: create one, add images, verify, promote; roll back, list, delete.",
    no_args_is_help=True,
)
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="Its label or whole name; `live`: the live one.")
]
SHOWN = 5
"""Skipped images of each reason that are shown; --report lists them all."""


@app.command()
def create(
    label: Annotated[str, typer.Argument(help="Part of its name: a to z, 0 to 9, single underscores.")] = "",
    expect: Annotated[int, typer.Option(min=1, metavar="N", help="About how many images it will hold.")] = 100_000,
    thumbnails: Annotated[bool, typer.Option(help="Keep a thumbnail of 128 pixels of each image.")] = False,
    from_bundle: Annotated[
        bool, typer.Option("--from-bundle", help="The bundle's own gallery, filled and verified; no label.")
    ] = False,
    promote: Annotated[bool, typer.Option("--promote", help="With --from-bundle: make it live.")] = False,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """Create an empty version, or load the bundle's own gallery. Doing it again changes nothing."""
    from geofix.gallery.loader import fill_own, own_calibration

    if from_bundle == bool(label):
        raise typer.BadParameter("name a LABEL, or say --from-bundle")
    with _session("create", bundle, admin, data_dir) as (loaded, access):
        if not from_bundle:
            print(access.create(label, expect, thumbnails=thumbnails).name)
            return
        with _bar("loading") as bar:
            info = fill_own(access, loaded, bar)
        if promote:
            info = access.promote(info.name, own_calibration(loaded))
        print(info.name)


@app.command()
def add(
    version: VersionArgument,
    source: Annotated[Path, typer.Argument(help="Directory of images, .csv, .parquet, .tar or directory of .tar.")],
    images: Annotated[Path | None, typer.Option(help="Directory that a table's files are named from.")] = None,
    file_column: Annotated[str, typer.Option(help="A table's column of file names.")] = "file",
    lat_column: Annotated[str, typer.Option(help="Its column of latitudes, degrees.")] = "lat",
    lon_column: Annotated[str, typer.Option(help="Its column of longitudes, degrees.")] = "lon",
    skip_near: Annotated[
        bool, typer.Option("--skip-near-duplicates", help="Leave out what looks like an image that is there.")
    ] = False,
    near_bits: Annotated[
        int, typer.Option(min=0, max=16, help="With it: bits of the 64-bit perceptual hash that may differ.")
    ] = 4,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as JSON.")] = None,
    patience: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for a database that is away.")
    ] = 600.0,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
    classifier: ClassifierOption = "",
    embedder: EmbedderOption = "",
) -> None:
    """Add images to a version that is not live. Done again, it goes on where it stopped, and changes nothing twice.

    A directory's images are placed by their EXIF, a table's by its columns, a shard's by the .json beside each image.

    Exit codes: 0 done, 1 it could not be done, or no image was added or there; 2 usage, 130 Ctrl-C.
    """
    from geofix.cli.gallery_access import chosen_networks, version_named
    from geofix.cli.output import say
    from geofix.ingest.add import Adder, AddOptions
    from geofix.ingest.sources import Columns, Source

    with _session("add", bundle, admin, data_dir) as (loaded, access):
        info = version_named(access, loaded, version)
        where = Source(source, images, Columns(file_column, lat_column, lon_column))
        networks = chosen_networks(loaded, classifier, embedder)
        options = AddOptions(near_bits if skip_near else None, patience)
        with _bar("adding") as bar:
            total = where.count() or 0
            adder = Adder(access, loaded, networks, options, say, lambda r: bar(r.seen, max(total, r.seen)))
            done = adder.run(info.name, where)
        if report is not None:
            report.write_text(json.dumps(done.record(), ensure_ascii=False, indent=1) + "\n")
        _show(done)
        if not done.added and not done.already_there:
            say(f"geofix gallery add: no image in {source} could be added")
            raise typer.Exit(1)


@app.command()
def verify(
    version: VersionArgument,
    accept_partial: Annotated[
        bool, typer.Option(help="Take what adds that did not finish have left as all that they will bring.")
    ] = False,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """Read every row and compare it with what was written, and searches with exact ones in numpy."""
    from geofix.cli.gallery_access import version_named

    with _session("verify", bundle, admin, data_dir) as (loaded, access):
        info = version_named(access, loaded, version)
        if accept_partial:
            access.finish_add(info.name, "")
        info = _verified(access, loaded, info)
        print(
            f"{info.name}: {info.images:,} images in {info.cells:,} cells, {info.set_aside:,} set aside, digest {info.digest}"
        )


@app.command()
def promote(
    version: VersionArgument,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
    classifier: ClassifierOption = "",
    embedder: EmbedderOption = "",
) -> None:
    """Make a version live: verify it if it is not, fit its radii on the images set aside, let them join, and switch."""
    from geofix.calibration import LEAST_QUERIES
    from geofix.cli.gallery_access import chosen_networks, version_named
    from geofix.cli.output import say
    from geofix.gallery.layout import State
    from geofix.gallery.loader import own_calibration
    from geofix.gallery.refit import refit

    with _session("promote", bundle, admin, data_dir) as (loaded, access):
        info = version_named(access, loaded, version)
        calibration = info.calibration
        if info.state is State.FILLING:
            info = _verified(access, loaded, info)
        if info.name == loaded.gallery_version:
            calibration = own_calibration(loaded)
        elif info.state is State.VERIFIED and not info.joined:
            with _bar("fitting radii") as bar:
                networks = chosen_networks(loaded, classifier, embedder) if info.set_aside >= LEAST_QUERIES else None
                fitted = refit(access, info, loaded, networks, bar) if networks is not None else None
            calibration = fitted.model_dump_json() if fitted is not None else ""
        info = access.promote(info.name, calibration)
        if not info.calibration:
            say(
                f"fewer than {LEAST_QUERIES} images set aside could be used: answers carry no radius and say UNCALIBRATED"
            )
        print(f"{info.name} is live: {info.images:,} images; before it {info.previous or 'nothing'}")


@app.command()
def rollback(bundle: BundleOption = None, admin: AdminOption = "", data_dir: DataDirOption = None) -> None:
    """Make the version that was live before the live one live again."""
    with _session("rollback", bundle, admin, data_dir) as (_, access):
        print(f"{access.rollback().name} is live")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """List the versions, oldest first."""
    from rich import box
    from rich.table import Table

    from geofix.cli.output import output_console

    with _session("list", bundle, admin, data_dir) as (loaded, access):
        infos, live = access.versions()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("version", "state", "images", "set aside", "radii", "created"):
        table.add_column(column, no_wrap=True)
    for info in infos:
        state = "live" if info.name == live else "retired" if info.retired else info.state.value
        if info.model_version != loaded.version:
            state += ", of another bundle version"
        if as_json:
            record = {key: value for key, value in vars(info).items() if key not in ("adds", "calibration")}
            print(json.dumps(record | {"live": info.name == live, "calibrated": bool(info.calibration)}))
        radii = "fitted" if info.calibration else "–"
        table.add_row(info.name, state, f"{info.images:,}", f"{info.set_aside:,}", radii, info.created[:16])
    if not as_json:
        output_console().print(table)


@app.command()
def delete(
    version: VersionArgument,
    force: Annotated[bool, typer.Option(help="Also if requests may still ask for it.")] = False,
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """Delete a version and its thumbnails; never the live one."""
    from geofix.cli.gallery_access import version_named

    with _session("delete", bundle, admin, data_dir) as (loaded, access):
        infos, _ = access.versions()
        name = version if any(info.name == version for info in infos) else version_named(access, loaded, version).name
        access.delete(name, force=force)
        print(f"{name} is deleted")


@contextlib.contextmanager
def _session(
    command: str, bundle: Path | None, admin: str, data_dir: Path | None
) -> Iterator[tuple[Bundle, GalleryAdmin]]:
    """The bundle and the gallery; errors of ours are one line and exit code 1 (settings: 2)."""
    from geofix.cli.gallery_access import chosen_bundle, opened
    from geofix.cli.output import say
    from geofix.errors import ConfigurationError, GeofixError

    try:
        loaded = chosen_bundle(bundle)
        with opened(loaded, admin, data_dir) as access:
            yield loaded, access
    except GeofixError as error:
        say(f"geofix gallery {command}: {error.message}")
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error


def _verified(access: GalleryAdmin, bundle: Bundle, info: GalleryInfo) -> GalleryInfo:
    from geofix.gallery.verify import verify as verify_version

    with _bar("verifying") as bar:
        read = 0

        def progress(rows: int) -> None:
            nonlocal read
            read += rows
            bar(read, max(info.images, read))

        return verify_version(access, info.name, bundle, progress)


def _show(report: Report) -> None:
    from geofix.cli.output import printable

    rate = f", {report.seen / report.seconds:,.1f} images a second" if report.seconds else ""
    print(
        f"{report.version}: {report.added:,} added ({report.set_aside:,} of them set aside for the radii), "
        f"{report.already_there:,} there before, {sum(report.skipped.values()):,} skipped{rate}"
    )
    for why, count in report.skipped.most_common():
        print(f"  {count:,} x {why.value}")
        for each in [skipped for skipped in report.listed if skipped.why is why][:SHOWN]:
            print(f"      {printable(each.name)}" + (f": {each.detail}" if each.detail else ""))


@contextlib.contextmanager
def _bar(what: str) -> Iterator[Steps]:
    steps = Steps(what)
    try:
        yield steps
    finally:
        steps.close()


class Steps:
    """Progress on stderr: a bar with rate and time left on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, what: str) -> None:
        import time

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._what, self._clock = what, time.monotonic
        self._began = self._said = self._clock()
        console = Console(stderr=True)
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("", rate="", total=None)

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done."""
        now = self._clock()
        rate = done / max(now - self._began, 1e-3)
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total or None, rate=f"{rate:,.0f}/s")
        elif now - self._said > 10:
            from geofix.cli.output import say

            left = (total - done) / rate if rate else 0.0
            say(f"{self._what}: {done:,} of {total:,}, {rate:,.1f} a second, {left:,.0f} s left")
            self._said = now

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.stop()
