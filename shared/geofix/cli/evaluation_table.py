"""How `geofix evaluate` shows what it measured."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from geofix.abstention import RiskCoverage
from geofix.cli.output import output_console
from geofix.evaluation import CLUSTERED, Gain, Intervals, Metrics

SHOWN = (50, 90)
"""Probabilities, percent, whose radii are told by continent."""


def show(
    metrics: Mapping[str, Metrics],
    ranges: Mapping[str, Intervals],
    split: Mapping[str, Metrics],
    over_cells: Gain | None,
    seconds: float,
) -> None:
    """Print a column a strategy, and the default's answers by whether they are localizable."""
    default = next(iter(metrics.values()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for number, strategy in enumerate(metrics):
        table.add_column(f"{strategy} (default)" if number == 0 else strategy, justify="right", no_wrap=True)
    for name in split:
        table.add_column(f"default, {name}", justify="right", no_wrap=True)
    columns = [*metrics.values(), *split.values()]
    for km in default.within:
        cells = [f"{m.within[km]:.1f} %{_ends(ranges, s, km)}" for s, m in metrics.items()]
        table.add_row(f"within {km:,} km", *cells, *(f"{m.within[km]:.1f} %" for m in split.values()))
    table.add_row("median error", *(f"{m.median_km:,.1f} km" for m in columns))
    table.add_row("mean error", *(f"{m.mean_km:,.1f} km" for m in columns))
    table.add_row("GeoScore (of 5000)", *(f"{m.geoscore:,.0f}" for m in columns))
    table.add_row("localizable", *(f"{100 * m.localizable / m.n:.1f} %" for m in columns))
    table.add_row("answers with radii", *(f"{m.radius_share:.1f} %" for m in columns))
    for level in default.coverage:
        table.add_row(f"truths inside the {level} % radius", *(_or_dash(m.coverage[level], "%") for m in columns))
        table.add_row(f"median {level} % radius", *(_or_dash(m.radius_km[level], "km") for m in columns))
    clustered = (_or_dash(m.clustered_share, "%") for m in columns)
    table.add_row(f"largest cluster has {CLUSTERED} images or more", *clustered)
    table.add_row("images", *(f"{m.n:,}" for m in columns))
    console = output_console()
    console.print(table)
    if over_cells is not None:
        console.print(
            f"The default places {over_cells.points:+.1f} points more within {over_cells.within_km} km than classification "
            f"(paired bootstrap, 95 %: {over_cells.low:+.1f} to {over_cells.high:+.1f})."
        )
    failed = f", {default.failed} of them not answered" if default.failed else ""
    console.print(
        f"{default.n:,} images{failed}, {seconds:,.1f} s; in brackets 95 % intervals by bootstrap over places"
    )


def show_continents(continents: Mapping[str, Metrics]) -> None:
    """Print a line a continent: how good the default is there, and whether its radii hold."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("default, truths in", no_wrap=True)
    columns = ["images", "within 200 km", "within 750 km", "median"]
    columns += [text for level in SHOWN for text in (f"inside the {level} % radius", f"median {level} % radius")]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, found in continents.items():
        radii = [
            text
            for level in SHOWN
            for text in (_or_dash(found.coverage[level], "%"), _or_dash(found.radius_km[level], "km"))
        ]
        shares = (f"{found.within[km]:.1f} %" for km in (200, 750))
        table.add_row(name, f"{found.n:,}", *shares, f"{found.median_km:,.1f} km", *radii)
    output_console().print(table)


def show_risk(risk: RiskCoverage | None) -> None:
    """Print the risk-coverage curve in a line a share; nothing without one."""
    if risk is None:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("images answered, surest first", no_wrap=True)
    table.add_column(f"answers within {risk.within_km:g} km", justify="right", no_wrap=True)
    for share, right in risk.right.items():
        table.add_row(f"{share} %", f"{right:.1f} %")
    console = output_console()
    console.print(table)
    if risk.auroc is not None:
        console.print(f"AUROC of the 50 % radius for answers within {risk.within_km:g} km: {risk.auroc:.3f}.")


def _ends(ranges: Mapping[str, Intervals], strategy: str, km: float) -> str:
    low, high = ranges[strategy].within[km]
    return f" [{low:.1f}, {high:.1f}]"


def _or_dash(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.1f} {unit}"
