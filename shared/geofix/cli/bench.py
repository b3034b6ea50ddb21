"""`geofix bench`: how fast is a server with one's own images?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.cli.connect import (
    DEFAULT_SERVER,
    CaOption,
    CertOption,
    KeyOption,
    ServerOption,
    TimeoutOption,
    TlsOption,
    TokenOption,
    tls_of,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geofix.cli.load import Measured


def bench(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Images, folders of them, or quoted patterns.")],
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Requests in flight; a new one begins when one ends.")
    ] = 4,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="How long.")] = 10.0,
    cached: Annotated[bool, typer.Option("--cached", help="Let the server answer from its cache.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Load a server on another machine, which must be one of yours.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout_s: TimeoutOption = 30.0,
    use_tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    token_file: TokenOption = None,
) -> None:
    """Ask a running server for the places of images, over and over, and print its rate and how long answers took.

    A closed loop: as many requests as `--concurrency` are always in flight. Images are read, and large ones made smaller,
    before the clock starts. Answers that the server has cached are computed again unless --cached is given. Without --yes
    only a server on this machine is asked.

    Exit codes: 0 measured, 1 there were errors or no answers, 2 usage, 130 Ctrl-C.
    """
    import asyncio

    from geofix.cli.load import run
    from geofix.client import AsyncClient, LocateOptions, RetryPolicy
    from geofix.client.connection import Connection
    from geofix.errors import ConfigurationError, GeofixError

    if not (yes or Connection(server).is_local):
        raise typer.BadParameter(f"{server} is another machine; say --yes if you may load it", param_hint="--server")
    images = _images(photos, recursive)
    options = LocateOptions(bypass_cache=not cached)

    async def measure() -> Measured:
        tls, token = tls_of(use_tls, ca, cert, key), token_of(token_file)
        client = AsyncClient(server, timeout_s, tls=tls, token=token, retry=RetryPolicy(attempts=1), downsize=False)
        async with client:
            await client.info()  # a server that is down is one error, not thousands
            return await run(client, images, options, concurrency, seconds)

    try:
        measured = asyncio.run(measure())
    except ConfigurationError as error:
        raise typer.BadParameter(error.message) from error
    except GeofixError as error:
        from geofix.cli.output import say

        say(f"geofix bench: {error.message}")
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(measured.record()))
    else:
        _show(measured)
    raise typer.Exit(1 if measured.errors or not measured.answers else 0)


def _images(photos: Sequence[str], recursive: bool) -> list[bytes]:
    from geofix.cli.inputs import find_inputs
    from geofix.client.sources import sendable
    from geofix.errors import GeofixError

    images = []
    for found in find_inputs(photos, recursive=recursive):
        try:
            images.append(sendable(found.read(), True))
        except GeofixError as error:
            raise typer.BadParameter(f"{found.name}: {error.message}", param_hint="PHOTO") from error
    return images


def _show(measured: Measured) -> None:
    from rich import box
    from rich.table import Table

    from geofix.cli.output import output_console, say

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("images a second", "p50", "p90", "p99", "answers", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    spent = measured.quantiles_ms()
    times = ("–" if spent is None else f"{spent[q]:,.0f} ms" for q in (50, 90, 99))
    table.add_row(f"{measured.rate:,.1f}", *times, f"{measured.answers:,}", f"{sum(measured.errors.values()):,}")
    console = output_console()
    console.print(table)
    stages = ", ".join(f"{name} {ms:,.1f} ms" for name, ms in measured.stages_ms.items())
    if stages:
        console.print(f"Median of the server's own time: {stages}.")
    for reason, count in measured.errors.items():
        say(f"geofix bench: {count:,} × {reason}")
