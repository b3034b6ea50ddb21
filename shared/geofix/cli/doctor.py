"""`geofix doctor`: looks at everything that a user can get wrong, and says what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.cli.connect import (
    DEFAULT_SERVER,
    CaOption,
    CertOption,
    KeyOption,
    ServerOption,
    TlsOption,
    TokenOption,
    open_client,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geofix.cli.checks import Finding

_TIMEOUT_S = 5.0


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The bundle; default $GEOFIX_BUNDLE, else bundles/orbit.", show_default=False),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="As for geofix up; default $GEOFIX_DATA_DIR.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a check.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    use_tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    token_file: TokenOption = None,
) -> None:
    """Check this machine, the bundle, the stores and the server, and say the remedy of what is wrong.

    A server that is not there is wrong only where one was named, by --server or $GEOFIX_SERVER. Nothing is changed.

    Exit codes: 0 nothing is wrong, 1 something is, 2 usage, 130 Ctrl-C.
    """
    from geofix.cli.checks import Place, State, machine, parts, served, stores

    place = Place.from_environment(bundle, data_dir)
    named = server != DEFAULT_SERVER

    def all_findings() -> Iterator[Finding]:
        yield from machine(place)
        yield from parts(place)
        yield from stores(place)
        with open_client(server, _TIMEOUT_S, use_tls, ca, cert, key, token_file) as client:
            yield from served(client, place, named)

    wrong = 0
    for finding in all_findings():
        wrong += finding.state is State.WRONG
        if as_json:
            print(json.dumps(finding.record(), ensure_ascii=False), flush=True)
        else:
            _tell(finding)
    if not as_json:
        print(f"{wrong} thing{'' if wrong == 1 else 's'} to mend" if wrong else "nothing is wrong")
    raise typer.Exit(1 if wrong else 0)


def _tell(finding: Finding) -> None:
    from rich.text import Text

    from geofix.cli.checks import State
    from geofix.cli.output import output_console

    mark, style = {State.GOOD: ("✓", "green"), State.NOTE: ("!", "yellow"), State.WRONG: ("✗", "bold red")}[
        finding.state
    ]
    console = output_console()
    console.print(Text.assemble((mark, style), f" {finding.name}: {finding.says}"), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"    → {finding.remedy}"), soft_wrap=True)
