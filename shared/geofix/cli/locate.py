"""`geofix locate`: where were these photos taken?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from os.path import isdir, isfile, lexists
from pathlib import Path
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
    open_client,
)

if TYPE_CHECKING:
    from geofix.area import Box, Circle
    from geofix.cli.answers import Answered
    from geofix.cli.inputs import Input
    from geofix.cli.output import Truth
    from geofix.client import Location

_OUT = "Output"
_SEARCH = "Search"


class Form(StrEnum):
    """What is written to standard output."""

    TABLE = "table"
    JSON = "json"
    GEOJSON = "geojson"
    CSV = "csv"


def locate(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO",
            help="JPEG, PNG or WebP files, folders of them, quoted patterns, URLs; - is standard input.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, in the order of the photos.", rich_help_panel=_OUT)
    ] = False,
    as_geojson: Annotated[
        bool, typer.Option("--geojson", help="One GeoJSON FeatureCollection.", rich_help_panel=_OUT)
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A table with commas, a row a photo.", rich_help_panel=_OUT)
    ] = False,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="FILE", help="Write an HTML map too, which needs no network.", rich_help_panel=_OUT
        ),
    ] = None,
    exif_dir: Annotated[
        Path | None,
        typer.Option(
            "--write-exif",
            metavar="DIR",
            help="Write copies of the JPEG files that could be located, with the position in their EXIF, into DIR.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--top", min=0, max=100, metavar="N", help="Show the N best alternatives too.", rich_help_panel=_OUT
        ),
    ] = 0,
    density: Annotated[
        int,
        typer.Option(
            "--density",
            min=0,
            max=256,
            metavar="N",
            help="With --json or --geojson: the probability density over the Earth, as N cells of S2.",
            rich_help_panel=_OUT,
        ),
    ] = 0,
    country: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="Only places in this country (ISO 3166-1, such as NO).", rich_help_panel=_SEARCH
        ),
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(
            metavar="AREA",
            help="Only places in a circle, lat,lon,km, or in a box, south,west,north,east.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    allow_degraded: Annotated[
        bool,
        typer.Option(
            "--allow-degraded",
            help="Accept the cell's mean where the gallery cannot be searched.",
            rich_help_panel=_SEARCH,
        ),
    ] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders.")] = False,
    allow_url: Annotated[bool, typer.Option("--allow-url", help="Fetch photos named by http or https URL.")] = False,
    allow_private_url: Annotated[
        bool, typer.Option("--allow-private-url", help="Fetch from addresses of a private network too.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout_s: TimeoutOption = 30.0,
    use_tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    token_file: TokenOption = None,
) -> None:
    """Say where photos were taken, and how sure that is.

    The radii are those within which the truth lies with 50 and 90 % probability. Where a truth.csv (file, lat, lon) lies
    beside the photos, the distance to the truth is shown too. Large photos are made smaller before they are sent.

    Exit codes: 0 all were answered, 1 some were not, 2 usage, 130 Ctrl-C.
    """
    from geofix.client import LocateOptions

    form = _form(as_json, as_geojson, as_csv)
    inputs = _inputs(photos, recursive, allow_url, allow_private_url, timeout_s)
    _check_outputs(map_file, exif_dir, inputs)
    options = LocateOptions(
        max_alternatives=top,
        max_cells=0,
        max_neighbors=0,
        max_density_cells=density,
        allow_degraded=allow_degraded,
        area=_area(country, area),
    )
    with open_client(server, timeout_s, use_tls, ca, cert, key, token_file) as client:
        shown = locate_and_show("locate", inputs, partial(client.locate, options=options), form=form, top=top)
    good = shown.write_map(map_file) if map_file else True
    good = (shown.write_exif(exif_dir) if exif_dir else True) and good
    raise typer.Exit(0 if shown.all_answered and good else 1)


@dataclass
class Shown:
    """What became of all photos, after it was shown."""

    command: str
    answers: list[Answered[Location]]
    truth: Truth

    @property
    def all_answered(self) -> bool:
        """Whether none of them failed."""
        return all(answered.error is None for answered in self.answers)

    def write_map(self, path: Path) -> bool:
        """Write the HTML map; whether that went well."""
        from geofix.cli.mapfile import write_map
        from geofix.cli.output import say

        try:
            write_map(path, self.answers, self.truth)
        except OSError as error:
            say(f"geofix {self.command}: {path} cannot be written: {error.strerror}")
            return False
        say(f"geofix {self.command}: the map is in {path}")
        return True

    def write_exif(self, directory: Path) -> bool:
        """Write copies with positions; whether every photo that could be located has one."""
        from geofix.cli.copies import write_copies

        return write_copies(self.command, self.answers, directory)


def locate_and_show(
    command: str, inputs: Sequence[Input], locate_one: Callable[[bytes], Location], *, form: Form, top: int = 0
) -> Shown:
    """Locate all photos and print what was found."""
    from geofix.cli.answers import answer_inputs
    from geofix.cli.output import ErrorLines, follow, output_console
    from geofix.cli.records import CsvRows, feature_collection, json_line
    from geofix.cli.table import locations_table

    truth, errors, answers = _truth_beside(command), ErrorLines(command), []
    rows = CsvRows() if form is Form.CSV else None
    for answered in follow(answer_inputs(inputs, locate_one), len(inputs), "locating"):
        errors.tell(answered.source.name, answered.error)
        answers.append(answered)
        if form is Form.JSON:
            print(json_line(answered, truth(answered.source), top), flush=True)
        elif rows is not None:
            rows.write(answered, truth(answered.source))
    if form is Form.GEOJSON:
        print(feature_collection(answers, truth))
    elif form is Form.TABLE and any(answered.value for answered in answers):
        console = output_console()
        console.print(locations_table(answers, truth, top, console))
    return Shown(command, answers, truth)


def _form(as_json: bool, as_geojson: bool, as_csv: bool) -> Form:
    chosen = [form for form, said in ((Form.JSON, as_json), (Form.GEOJSON, as_geojson), (Form.CSV, as_csv)) if said]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    return chosen[0] if chosen else Form.TABLE


def _area(country: str | None, area: str | None) -> Circle | Box | str | None:
    from geofix.area import Box, Circle

    if country is not None and area is not None:
        raise typer.BadParameter("--country and --area exclude each other")
    if area is None:
        return country
    try:
        numbers = [float(word) for word in area.split(",")]
        if len(numbers) == 3:
            return Circle(numbers[0], numbers[1], 1000 * numbers[2])
        south, west, north, east = numbers
        return Box(south, west, north, east)
    except ValueError as error:
        raise typer.BadParameter(
            f"{area!r} is neither lat,lon,km nor south,west,north,east: {error}", param_hint="--area"
        ) from error


def _inputs(photos: list[str], recursive: bool, allow_url: bool, private: bool, timeout_s: float) -> list[Input]:
    from geofix.cli.fetch import FetchLimits, fetch, is_public, is_url
    from geofix.cli.inputs import STDIN, find_inputs

    if not (allow_url or private) and any(map(is_url, photos)):
        raise typer.BadParameter("photos are fetched from the web only with --allow-url", param_hint="PHOTO")
    if photos.count(STDIN) > 1:
        raise typer.BadParameter("- can be named once: there is one standard input", param_hint="PHOTO")
    fetcher = partial(
        fetch, limits=FetchLimits(timeout_s=timeout_s), allowed=(lambda _: True) if private else is_public
    )
    return find_inputs(photos, recursive=recursive, fetcher=fetcher)


def _check_outputs(map_file: Path | None, exif_dir: Path | None, inputs: Sequence[Input]) -> None:
    """What would only fail after all the work is said before it."""
    if map_file is not None and (isdir(map_file) or not isdir(map_file.absolute().parent)):
        raise typer.BadParameter(f"{map_file} is not the name of a file in an existing folder", param_hint="--map")
    if exif_dir is None:
        return
    if lexists(exif_dir) and not isdir(exif_dir):
        raise typer.BadParameter(f"{exif_dir} is a file; name a folder for the copies", param_hint="--write-exif")
    if any(given.path is not None and given.path.absolute().parent == exif_dir.absolute() for given in inputs):
        raise typer.BadParameter("the copies must go to another folder than the photos'", param_hint="--write-exif")


def _truth_beside(command: str) -> Truth:
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

    def look_up(source: Input) -> tuple[float, float] | None:
        return None if source.path is None else table(source.path.parent).get(source.path.name)

    return look_up
