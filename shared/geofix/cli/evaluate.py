"""`geofix evaluate`: how good are the answers on images whose place is known?"""

from __future__ import annotations

import json
import time
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
    from collections.abc import Callable, Mapping

    from geofix.cli.sources import Answers
    from geofix.evaluation import Gain, Metrics, Outcome


def evaluate(
    *,
    images: Annotated[
        Path, typer.Option("--images", metavar="DIR", help="Directory of the images.", show_default=False)
    ],
    truth: Annotated[
        Path,
        typer.Option(
            "--truth", metavar="CSV", help="Where they were taken: columns file, lat, lon.", show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="DIR", help="Evaluate this bundle in this process, without any service."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N images.")] = None,
    files: Annotated[
        str, typer.Option("--files", metavar="GLOB", help="Only images whose name matches, such as 'b*'.")
    ] = "*",
    timeout_s: TimeoutOption = 30.0,
    use_tls: TlsOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    token_file: TokenOption = None,
) -> None:
    """Measure accuracy, GeoScore and whether the radii hold, of the default strategy and of each part alone.

    An image without an answer counts as a miss at half the Earth's circumference; a not-localizable answer counts with its best
    guess; coverage is over answers with a radius.

    Exit codes: 0 measured, 1 no image was answered, 2 usage (a table of truths that cannot be used is one), 130 Ctrl-C.
    """
    from geofix.cli.output import say
    from geofix.cli.sources import STRATEGIES, ask_bundle, ask_server
    from geofix.errors import GeofixError
    from geofix.evaluation import errors_km, gain, summarise

    try:
        places = _chosen(images, truth, files, limit)
    except GeofixError as error:
        say(f"geofix evaluate: {error.message}")
        raise typer.Exit(2) from error
    try:
        started = time.perf_counter()
        if bundle is not None:
            outcomes = _outcomes(images, places, ask_bundle(bundle))
        else:
            with open_client(server, timeout_s, use_tls, ca, cert, key, token_file) as client:
                client.info()  # a platform that is down is one error, not a miss for every image
                outcomes = _outcomes(images, places, ask_server(client))
    except GeofixError as error:
        say(f"geofix evaluate: {error.message}")
        raise typer.Exit(1) from error
    metrics = {strategy: summarise(outcomes[strategy]) for strategy in STRATEGIES}
    seconds = time.perf_counter() - started
    default = metrics[STRATEGIES[0]]
    over_cells = gain(errors_km(outcomes["posterior"]), errors_km(outcomes["classification"]))
    if as_json:
        record = default.record() | {s: metrics[s].record() for s in STRATEGIES[1:]}
        print(json.dumps(record | {"gain_over_classification": over_cells.record(), "seconds": round(seconds, 3)}))
    else:
        _show(metrics, over_cells, seconds)
    raise typer.Exit(1 if default.failed == default.n else 0)


def _chosen(images: Path, truth: Path, pattern: str, limit: int | None) -> dict[str, tuple[float, float]]:
    """The rows of the truth to evaluate.

    Raises:
        InvalidInput: there are none, or an image that the truth names is not there.
    """
    from fnmatch import fnmatchcase
    from os.path import isdir, isfile  # those of Path raise where a directory may not be entered

    from geofix.errors import InvalidInput
    from geofix.truth import read_truth

    if not isdir(images):
        raise InvalidInput(f"{images} is not a directory")
    places = {name: place for name, place in read_truth(truth).items() if fnmatchcase(name, pattern)}
    if not places:
        raise InvalidInput(f"{truth} names no image" + ("" if pattern == "*" else f" that matches {pattern!r}"))
    missing = [name for name in places if not isfile(images / name)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InvalidInput(f"{truth} names {missing[0]}, and there is no such image in {images}{more}")
    return dict(list(places.items())[:limit])


def _outcomes(
    directory: Path, places: Mapping[str, tuple[float, float]], ask: Callable[[bytes], Answers]
) -> dict[str, list[Outcome]]:
    """Each strategy's outcomes, in the order of `places`."""
    from geofix.cli.answers import answer_inputs
    from geofix.cli.inputs import file_input
    from geofix.cli.output import ErrorLines, follow
    from geofix.cli.sources import STRATEGIES
    from geofix.evaluation import Outcome

    errors = ErrorLines("evaluate")
    outcomes: dict[str, list[Outcome]] = {strategy: [] for strategy in STRATEGIES}
    found = answer_inputs([file_input(directory / name) for name in places], ask)
    for answered, place in zip(follow(found, len(places), "evaluating"), places.values(), strict=True):
        errors.tell(answered.source.name, answered.error)
        for strategy, list_ in outcomes.items():
            if answered.value is None:
                list_.append(Outcome(place))
                continue
            location = answered.value[strategy]
            radii = {p: metres / 1000 for p, metres in location.radii.items()}
            largest = max((a.neighbors for a in location.alternatives), default=0)
            list_.append(Outcome(place, location.lat, location.lon, location.localizable, radii, largest))
    return outcomes


def _show(metrics: Mapping[str, Metrics], over_cells: Gain, seconds: float) -> None:
    from rich import box
    from rich.table import Table

    from geofix.cli.output import output_console
    from geofix.evaluation import CLUSTERED

    default = next(iter(metrics.values()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for number, strategy in enumerate(metrics):
        table.add_column(f"{strategy} (default)" if number == 0 else strategy, justify="right", no_wrap=True)
    for km in default.within:
        table.add_row(f"within {km:,} km", *(f"{m.within[km]:.1f} %" for m in metrics.values()))
    table.add_row("median error", *(f"{m.median_km:,.1f} km" for m in metrics.values()))
    table.add_row("mean error", *(f"{m.mean_km:,.1f} km" for m in metrics.values()))
    table.add_row("GeoScore (of 5000)", *(f"{m.geoscore:,.0f}" for m in metrics.values()))
    table.add_row("localizable", *(f"{100 * m.localizable / m.n:.1f} %" for m in metrics.values()))
    table.add_row("answers with radii", *(f"{m.radius_share:.1f} %" for m in metrics.values()))
    for level in default.coverage:
        table.add_row(
            f"truths inside the {level} % radius", *(_or_dash(m.coverage[level], "%") for m in metrics.values())
        )
        table.add_row(f"median {level} % radius", *(_or_dash(m.radius_km[level], "km") for m in metrics.values()))
    clustered = (_or_dash(m.clustered_share, "%") for m in metrics.values())
    table.add_row(f"largest cluster has {CLUSTERED} images or more", *clustered)
    console = output_console()
    console.print(table)
    console.print(
        f"The default places {over_cells.points:+.1f} points more within {over_cells.within_km} km than classification "
        f"(paired bootstrap, 95 %: {over_cells.low:+.1f} to {over_cells.high:+.1f})."
    )
    failed = f", {default.failed} of them not answered" if default.failed else ""
    console.print(f"{default.n:,} images{failed}, {seconds:,.1f} s")


def _or_dash(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.1f} {unit}"
