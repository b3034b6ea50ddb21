"""`geofix demo`: the whole platform, started, asked and stopped."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BUNDLE = Path("bundles/orbit")


def demo(
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES_DIR", help="Directory of images.")] = Path("samples"),
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Bundle to serve; default $GEOFIX_BUNDLE, else bundles/orbit.", show_default=False
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to keep the gallery and the logs; default: nowhere.", show_default=False
        ),
    ] = None,
) -> None:
    """Start the platform on free ports, locate the images of a directory, print the table, stop.

    Exit codes: 0 all were located without an error, 1 otherwise, 2 usage, 130 Ctrl-C.
    """
    from rich.console import Console

    from geofix.cli.inputs import SUFFIXES, file_input
    from geofix.cli.locate import Form, locate_and_show
    from geofix.cli.output import say
    from geofix.client import Client, LocateOptions
    from geofix.errors import GeofixError
    from geofix.platform import Platform

    photos = sorted(p for p in samples.iterdir() if p.suffix.lower() in SUFFIXES) if samples.is_dir() else []
    if not photos:
        raise typer.BadParameter(f"there is no JPEG, PNG or WebP image in {samples}", param_hint="SAMPLES_DIR")
    chosen = bundle or Path(os.environ.get("GEOFIX_BUNDLE") or DEFAULT_BUNDLE)
    # So that a stop by SIGTERM leaves through the `with` below, which stops the platform.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    options = LocateOptions(max_alternatives=0, max_cells=0, max_neighbors=0)
    try:
        with ExitStack() as stack:
            directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geofix-demo-")))
            platform = stack.enter_context(Platform(chosen, directory, console=Console(stderr=True)))
            client = stack.enter_context(Client(platform.address, timeout_s=30))
            inputs = [file_input(path) for path in photos]
            shown = locate_and_show("demo", inputs, partial(client.locate, options=options), form=Form.TABLE)
    except GeofixError as error:
        say(f"geofix demo: {error.message}")
        raise typer.Exit(1) from error
    raise typer.Exit(0 if shown.all_answered else 1)
