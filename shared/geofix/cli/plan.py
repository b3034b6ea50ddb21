"""`geofix plan`: replicas, memory and cost inputs of a deployment."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def plan(
    qps: Annotated[float, typer.Option(help="Images a second at the peak.")],
    gallery: Annotated[int, typer.Option(help="Images in the gallery.")],
    p99: Annotated[float, typer.Option(metavar="SECONDS", help="Time that 99 % of answers may take at most.")],
    cache_hits: Annotated[float, typer.Option(help="Share of images answered from the cache, 0 to 1.")] = 0.0,
    cores: Annotated[int, typer.Option(help="Cores of one replica.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what a load needs: replicas of each service, memory, core hours.

    From figures that `benchmarks/capacity.py` measured with the demo bundle on one machine without a GPU; measure your own model
    on your own machines with it before you buy any.
    """
    from rich import box
    from rich.table import Table

    from geofix.capacity import HOURS_A_MONTH, Demand, measured, measured_record
    from geofix.capacity import plan as make_plan
    from geofix.cli.output import output_console, say
    from geofix.errors import GeofixError
    from geofix.gallery.layout import partition_count

    try:
        made = make_plan(measured(), Demand(qps, gallery, p99, cache_hits, cores), partition_count(gallery, many=False))
    except GeofixError as error:
        say(f"geofix plan: {error.message}")
        raise typer.Exit(2) from error
    record = measured_record()
    source = {name: record[name] for name in ("command", "machine", "bundle", "measured")}
    if as_json:
        print(json.dumps({**made.record(), "figures": source}))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("service", "replicas", "cores busy", "p99 of waiting", "memory of one"):
        table.add_column(column, no_wrap=True, justify="left" if column == "service" else "right")
    for name, part in made.parts.items():
        wait = f"{part.wait_p99_s * 1000:,.0f} ms"
        table.add_row(name, str(part.replicas), f"{part.busy:.0%}", wait, f"{part.memory_mib:,.0f} MiB")
    output_console().print(table)
    numbers = made.record()
    print(f"p99 of an answer    {made.p99_s:.3f} s expected, {p99:g} s asked for")
    print(f"replicas together   {made.cores} cores, {made.memory_gib:,.1f} GiB")
    print(
        f"Milvus              {made.milvus_gib:,.1f} GiB, {made.milvus_gib_replacing:,.1f} GiB while a version is replaced"
    )
    print(
        f"a month             {numbers['core_hours_a_month']:,} core hours, {numbers['gib_hours_a_month']:,.0f} GiB hours "
        f"({HOURS_A_MONTH} hours)"
    )
    print(f"figures             {source['command']}, {source['bundle']}, {source['machine']}, {source['measured']}")
