"""`geofix gallery`: the versions of a gallery, and one's own images in them."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.cli.gallery_access import AdminOption, BundleOption, ClassifierOption, DataDirOption, EmbedderOption
from geofix.cli.gallery_backup import backup, restore
from geofix.cli.gallery_session import bar, session

if TYPE_CHECKING:
    from geofix.bundle import Bundle
    from geofix.gallery.admin import GalleryAdmin
    from geofix.gallery.layout import GalleryInfo
    from geofix.ingest.report import Report

app = typer.Typer(
    name="gallery",
    help="Versions of the gallery: create one, add images, verify, promote; roll back, list, back up, restore, delete.",
    no_args_is_help=True,
)
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="Its label or whole name; `live`: the live one.")
]


class Engine(StrEnum):
    """What `add` runs on."""

    PLAIN = "plain"
    RAY = "ray"


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
    with session("create", bundle, admin, data_dir) as (loaded, access):
        if not from_bundle:
            print(access.create(label, expect, thumbnails=thumbnails).name)
            return
        with bar("loading") as shown:
            info = fill_own(access, loaded, shown)
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
    engine: Annotated[
        Engine, typer.Option(help="`ray`: on many workers, by Ray Data; see docs/gallery.md.")
    ] = Engine.PLAIN,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --engine ray: so many workers, a core each.")
    ] = 2,
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
    from geofix.cli.gallery_access import chosen_networks, ray_cluster, version_named
    from geofix.cli.output import say
    from geofix.ingest.add import Adder, AddOptions
    from geofix.ingest.on_ray import RayAdder
    from geofix.ingest.ray_running import ray_running
    from geofix.ingest.sources import Columns, Source

    around = ray_running(workers) if engine is Engine.RAY else contextlib.nullcontext()
    with session("add", bundle, admin, data_dir, around) as (loaded, access):
        info = version_named(access, loaded, version)
        where = Source(source, images, Columns(file_column, lat_column, lon_column))
        options = AddOptions(near_bits if skip_near else None, patience)
        with bar("adding") as shown:
            total = where.count() or 0
            _say_if_small(info, total)

            def progress(so_far: Report) -> None:
                shown(so_far.seen, max(total, so_far.seen) if total else 0)

            if engine is Engine.RAY:
                cluster = ray_cluster(loaded, admin, data_dir, classifier, embedder, workers)
                done = RayAdder(access, cluster, options, say, progress).run(info.name, where)
            else:
                networks = chosen_networks(loaded, classifier, embedder)
                done = Adder(access, loaded, networks, options, say, progress).run(info.name, where)
        if report is not None:
            report.write_text(json.dumps(done.record(), ensure_ascii=False, indent=1) + "\n")
        _show(done)
        if not total:
            _say_if_small(info, done.added + done.already_there)
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

    with session("verify", bundle, admin, data_dir) as (loaded, access):
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

    with session("promote", bundle, admin, data_dir) as (loaded, access):
        info = version_named(access, loaded, version)
        calibration = info.calibration
        if info.state is State.FILLING:
            info = _verified(access, loaded, info)
        if info.name == loaded.gallery_version:
            calibration = own_calibration(loaded)
        elif info.state is State.VERIFIED and not info.joined:
            with bar("fitting radii") as shown:
                networks = chosen_networks(loaded, classifier, embedder) if info.set_aside >= LEAST_QUERIES else None
                fitted = refit(access, info, loaded, networks, shown) if networks is not None else None
            calibration = fitted.model_dump_json() if fitted is not None else ""
        info = access.promote(info.name, calibration)
        if not info.calibration:
            say(
                f"of {info.set_aside} images set aside fewer than {LEAST_QUERIES} could be used: answers carry no radius and say "
                "UNCALIBRATED"
            )
        print(f"{info.name} is live: {info.images:,} images; before it {info.previous or 'nothing'}")


@app.command()
def rollback(bundle: BundleOption = None, admin: AdminOption = "", data_dir: DataDirOption = None) -> None:
    """Make the version that was live before the live one live again."""
    with session("rollback", bundle, admin, data_dir) as (_, access):
        print(f"{access.rollback(access.versions()[1] or '').name} is live")


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

    with session("list", bundle, admin, data_dir) as (loaded, access):
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


app.command()(backup)
app.command()(restore)


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

    with session("delete", bundle, admin, data_dir) as (loaded, access):
        infos, _ = access.versions()
        name = version if any(info.name == version for info in infos) else version_named(access, loaded, version).name
        access.delete(name, force=force)
        print(f"{name} is deleted")


def _verified(access: GalleryAdmin, bundle: Bundle, info: GalleryInfo) -> GalleryInfo:
    from geofix.gallery.verify import verify as verify_version

    with bar("verifying") as shown:
        read = 0

        def progress(rows: int) -> None:
            nonlocal read
            read += rows
            shown(read, max(info.images, read))

        return verify_version(access, info.name, bundle, progress)


def _say_if_small(info: GalleryInfo, images: int) -> None:
    """Say it where so many images would have more partitions than a version has, for it expects fewer."""
    from geofix.cli.output import say
    from geofix.gallery.layout import SERVER_ROWS, partition_count

    wanted = partition_count(images, many=False)
    if wanted > info.partitions and images > info.partitions * SERVER_ROWS:
        say(
            f"{info.name} was created for fewer images: a search in a cell will read one of {info.partitions} partitions, some "
            f"{images // info.partitions:,} rows; created with --expect {images} it would have {wanted} of them"
        )


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
