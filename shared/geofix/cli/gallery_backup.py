"""`geofix gallery backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geofix.cli.gallery_access import AdminOption, BundleOption, DataDirOption
from geofix.cli.gallery_session import bar, session


def backup(
    version: Annotated[
        str,
        typer.Argument(metavar="VERSION", help="Its label or whole name; `live`: the live one. It must be verified."),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """Write a version into one file: every row, the images set aside, thumbnails, radii."""
    from geofix.cli.gallery_access import version_named
    from geofix.cli.output import say
    from geofix.gallery.backup import back_up

    with session("backup", bundle, admin, data_dir) as (loaded, access):
        info = version_named(access, loaded, version)
        try:
            with bar("backing up") as shown:
                made = back_up(access, info, file, shown)
        except OSError as error:
            say(f"geofix gallery backup: {file} cannot be written: {error.strerror or error}")
            raise typer.Exit(1) from error
        print(f"{info.name}: {made.rows:,} images in {file}, {file.stat().st_size:,} bytes, content {made.sha256[:16]}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `backup` wrote.")],
    bundle: BundleOption = None,
    admin: AdminOption = "",
    data_dir: DataDirOption = None,
) -> None:
    """Put a version back under its own name and verify it; `promote` makes it live.

    The whole file is checked first: one that is damaged or cut short restores nothing. Done again, it goes on where it stopped.
    """
    from geofix.gallery.backup import restore as restore_version

    with session("restore", bundle, admin, data_dir) as (loaded, access):
        with bar("restoring") as shown:
            info = restore_version(access, loaded, file, shown)
        aside = "" if info.joined or not info.set_aside else f" and {info.set_aside:,} set aside"
        print(
            f"{info.name}: {info.images:,} images{aside} restored; `geofix gallery promote {info.name}` makes it live"
        )
