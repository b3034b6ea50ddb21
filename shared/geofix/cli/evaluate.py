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
    from collections.abc import Callable, Sequence

    from geofix.cli.evaluation_set import EvaluationSet
    from geofix.cli.sources import Answers
    from geofix.evaluation import Metrics, Outcome


def evaluate(
    *,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Directory of the images.", show_default=False)
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", metavar="CSV", help="Where they were taken: columns file, lat, lon.", show_default=False
        ),
    ] = None,
    benchmark: Annotated[
        str,
        typer.Option(
            "--benchmark",
            metavar="NAME",
            help="In place of --truth: im2gps, im2gps3k, yfcc4k or yfcc25k; images are named by their ids.",
        ),
    ] = "",
    features: Annotated[
        Path | None,
        typer.Option(
            "--features", metavar="NPZ", help="In place of images: arrays features, lat, lon and, if any, ids, group."
        ),
    ] = None,
    ablate: Annotated[
        Path | None,
        typer.Option(
            "--ablate",
            metavar="DIR",
            help="With --bundle: the paper's configurations and variants of ours, as Markdown, JSON and figures in DIR.",
        ),
    ] = None,
    default_only: Annotated[
        bool, typer.Option("--default-only", help="Only the default strategy: several times as fast.")
    ] = False,
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
    guess; coverage is over answers with a radius. Intervals are of 95 %, by bootstrap over places. The default is
    also told by continent, and by how many of its surest answers are given.

    Exit codes: 0 measured, 1 no image was answered, 2 usage (a table of truths that cannot be used is one), 130 Ctrl-C.
    """
    from geofix.cli.output import say
    from geofix.cli.sources import STRATEGIES, ask_bundle, ask_server
    from geofix.errors import GeofixError

    if ablate is not None and bundle is None:
        raise typer.BadParameter("--ablate needs --bundle: a server answers with its own rule alone")
    try:
        asked = _asked(images, truth, benchmark, features, files).first(limit)
    except GeofixError as error:
        say(f"geofix evaluate: {error.message}")
        raise typer.Exit(2) from error
    strategies = STRATEGIES[:1] if default_only else STRATEGIES
    started = time.perf_counter()
    try:
        if bundle is not None:
            from geofix.bundle import Bundle
            from geofix.local import LocalEngine

            engine = LocalEngine(Bundle.load(bundle))
            if ablate is not None:
                from geofix.cli.ablate import write_ablation

                raise typer.Exit(write_ablation(engine, asked, ablate))
            ask = ask_bundle(engine, features=asked.features, strategies=strategies)
            outcomes = _outcomes(asked, ask, strategies)
        else:
            with open_client(server, timeout_s, use_tls, ca, cert, key, token_file) as client:
                client.info()  # a platform that is down is one error, not a miss for every image
                ask = ask_server(client, features=asked.features, strategies=strategies)
                outcomes = _outcomes(asked, ask, strategies)
    except GeofixError as error:
        say(f"geofix evaluate: {error.message}")
        raise typer.Exit(1) from error
    _tell(outcomes, asked.groups, time.perf_counter() - started, as_json=as_json)
    raise typer.Exit(1 if all(found.lat is None for found in outcomes[STRATEGIES[0]]) else 0)


def _tell(outcomes: dict[str, list[Outcome]], groups: list[str], seconds: float, *, as_json: bool) -> None:
    """Print what the outcomes of each strategy, the default's first, come to."""
    from geofix.abstention import risk_coverage
    from geofix.cli.evaluation_table import show, show_continents, show_risk
    from geofix.evaluation import by_continent, errors_km, gain, intervals, summarise

    default, ours = next(iter(outcomes.items()))
    metrics = {strategy: summarise(found) for strategy, found in outcomes.items()}
    ranges = {strategy: intervals(errors_km(found), groups) for strategy, found in outcomes.items()}
    split, continents, risk = _split(ours), by_continent(ours), risk_coverage(ours)
    cells = outcomes.get("classification")
    over_cells = gain(errors_km(ours), errors_km(cells), places=groups) if cells else None
    if as_json:
        records = {s: metrics[s].record() | {"intervals": ranges[s].record()} for s in outcomes}
        record = records.pop(default) | records
        record["by_localizable"] = {name: of.record() for name, of in split.items()}
        record["by_continent"] = {name: of.record() for name, of in continents.items()}
        record["risk_coverage"] = risk and risk.record()
        record["gain_over_classification"] = over_cells and over_cells.record()
        print(json.dumps(record | {"seconds": round(seconds, 3)}))
    else:
        show(metrics, ranges, split, over_cells, seconds)
        show_continents(continents)
        show_risk(risk)


def _asked(images: Path | None, truth: Path | None, benchmark: str, features: Path | None, files: str) -> EvaluationSet:
    from geofix.cli.evaluation_set import from_benchmark, from_features, from_table

    if features is not None and not (images or truth or benchmark):
        return from_features(features)
    if features is None and images is not None and benchmark and truth is None:
        return from_benchmark(benchmark, images)
    if features is None and images is not None and truth is not None and not benchmark:
        return from_table(images, truth, files)
    raise typer.BadParameter("name --images with --truth, or --images with --benchmark, or --features alone")


def _split(outcomes: Sequence[Outcome]) -> dict[str, Metrics]:
    """The metrics of the answers that are localizable and of the others, where there are both."""
    from geofix.evaluation import summarise

    parts = {
        "localizable": [o for o in outcomes if o.lat is not None and o.localizable],
        "not localizable": [o for o in outcomes if o.lat is None or not o.localizable],
    }
    return {name: summarise(part) for name, part in parts.items()} if all(parts.values()) else {}


def _outcomes(
    asked: EvaluationSet, ask: Callable[[bytes], Answers], strategies: Sequence[str]
) -> dict[str, list[Outcome]]:
    """Each strategy's outcomes, in the order of what was asked."""
    from geofix.cli.answers import answer_inputs
    from geofix.cli.output import ErrorLines, follow
    from geofix.evaluation import Outcome

    errors = ErrorLines("evaluate")
    outcomes: dict[str, list[Outcome]] = {strategy: [] for strategy in strategies}
    found = answer_inputs(asked.inputs, ask)
    for answered, place in zip(follow(found, len(asked.places), "evaluating"), asked.places, strict=True):
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
