"""`geofix locate`: where were these photos taken?"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from geofix.client import Location

ServerOption = Annotated[
    str,
    typer.Option("--server", envvar="GEOFIX_SERVER", metavar="ADDR", help="host:port of the gateway."),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, metavar="SECONDS", help="For each image.")
]


def locate(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="JPEG, PNG or WebP files.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, in the order of the photos.")
    ] = False,
    top: Annotated[
        int, typer.Option("--top", min=0, max=100, metavar="N", help="Show the N best alternatives of each photo too.")
    ] = 0,
    server: ServerOption = "127.0.0.1:50051",
    timeout_s: TimeoutOption = 30.0,
) -> None:
    """Say where photos were taken, and how sure that is.

    The radii are those within which the truth lies with 50 and 90 % probability. Where a truth.csv (file, lat, lon) lies
    beside the photos, the distance to the truth is shown too.

    Exit codes: 0 all were answered, 1 some were not, 2 usage, 130 Ctrl-C.
    """
    from geofix.client import Client, LocateOptions

    options = LocateOptions(max_alternatives=top, max_cells=0, max_neighbors=0)
    with Client(server, timeout_s) as client:
        answered = locate_and_show(
            "locate", photos, lambda data: client.locate(data, options), as_json=as_json, top=top
        )
    raise typer.Exit(0 if answered else 1)


def locate_and_show(
    command: str, photos: list[Path], locate_one: Callable[[bytes], Location], *, as_json: bool, top: int = 0
) -> bool:
    """Locate all photos and print what was found; whether all were answered."""
    from geofix.cli.answers import answer_files
    from geofix.cli.output import ErrorLines, follow, output_console, record
    from geofix.cli.table import locations_table

    truth, errors, answers = _truth_beside(command), ErrorLines(command), []
    for answered in follow(answer_files(photos, locate_one), len(photos), "locating"):
        errors.tell(answered.path, answered.error)
        answers.append(answered)
        if as_json:
            print(json.dumps(record(answered, truth(answered.path), top), ensure_ascii=False), flush=True)
    console = output_console()
    if not as_json and any(answered.value for answered in answers):
        console.print(locations_table(answers, truth, top, console))
    return all(answered.error is None for answered in answers)


def _truth_beside(command: str) -> Callable[[Path], tuple[float, float] | None]:
    """Looks a photo up in the truth.csv of its directory; a table that cannot be read is said once and passed over."""
    from geofix.cli.output import say
    from geofix.errors import InvalidInput
    from geofix.truth import read_truth

    @cache
    def table(directory: Path) -> dict[str, tuple[float, float]]:
        path = directory / "truth.csv"
        try:
            return read_truth(path) if isfile(path) else {}  # Path.is_file raises where a directory may not be entered
        except InvalidInput as error:
            say(f"geofix {command}: {error.message} (so no distances to the truth)")
            return {}

    return lambda photo: table(photo.parent).get(photo.name)
