"""`geofix up`: the whole platform on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BUNDLE = Path("bundles/orbit")
DEFAULT_PORT = 50051
DEFAULT_WEB_PORT = 8080


def up(
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the bundle to serve; default $GEOFIX_BUNDLE, else bundles/orbit.", show_default=False
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the gallery and the logs are kept; default $GEOFIX_DATA_DIR, else ~/.local/share/geofix.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the gateway on 127.0.0.1; 0: a free one.")
    ] = DEFAULT_PORT,
    web: Annotated[bool, typer.Option(help="Start the page and the JSON API too.")] = True,
    web_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page on 127.0.0.1; 0: a free one.")
    ] = DEFAULT_WEB_PORT,
) -> None:
    """Start the platform and leave it running: gRPC at 127.0.0.1:50051, the page at http://127.0.0.1:8080, until Ctrl-C.

    Exit codes: 0 after Ctrl-C or SIGTERM, at any moment; 1 where it cannot start or had to stop; 2 for usage.
    """
    from rich.console import Console

    from geofix.errors import GeofixError
    from geofix.platform import Platform, default_data_dir

    chosen = bundle or Path(os.environ.get("GEOFIX_BUNDLE") or DEFAULT_BUNDLE)
    errors = Console(stderr=True)
    platform = Platform(chosen, data_dir or default_data_dir(), port, Console(), web_port=web_port if web else None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: platform.request_stop())
    try:
        if platform.start():
            page = f", the page at {platform.page}" if web else ""
            print(f"geofix is ready: gRPC at {platform.address}{page} (Ctrl-C stops)", flush=True)
            platform.wait()
        platform.stop()
        print("geofix has stopped", flush=True)
    except GeofixError as error:
        platform.stop()
        errors.print(f"geofix up: {error.message}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
