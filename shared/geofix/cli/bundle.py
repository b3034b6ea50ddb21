"""`geofix bundle`: what a bundle is, whether it is whole, how two differ, whether it runs elsewhere as here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geofix.bundle import Bundle, Manifest

app = typer.Typer(
    help="Look at bundles: directories that hold a model, its cells, gallery and calibration.", no_args_is_help=True
)

DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the bundle.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command(epilog="Example: geofix bundle info bundles/orbit")
def info(directory: DirArgument, as_json: JsonOption = False) -> None:
    """Say what a bundle is: version, licence, dimensions, files, what its calibration promises. Hashes are not checked.

    Exit codes: 0 said, 1 it is no bundle, 2 usage.
    """
    bundle = _loaded("info", directory, verify=False)
    found = _summary(bundle)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    from rich import box
    from rich.table import Table

    from geofix.cli.output import output_console

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for name, value in found.items():
        if name != "files":
            table.add_row(name.replace("_", " "), _shown(value))
    for name, entry in found["files"].items():
        table.add_row(name, f"{entry['bytes']:,} bytes")
    output_console().print(table)


@app.command(epilog="Example: geofix bundle verify bundles/orbit")
def verify(directory: DirArgument) -> None:
    """Check every file of a bundle against its hash, and that its parts fit together.

    Exit codes: 0 it is whole, 1 it is not, 2 usage.
    """
    from geofix.cli.output import say
    from geofix.errors import GeofixError

    bundle = _loaded("verify", directory, verify=True)
    try:
        problems = _misfits(bundle)
    except GeofixError as error:
        problems = [error.message]
    for problem in problems:
        say(f"geofix bundle verify: {directory}: {problem}")
    if problems:
        raise typer.Exit(1)
    print(f"{bundle.version}: {len(bundle.manifest.files)} files are as the manifest says, and fit together")


@app.command(epilog="Example: geofix bundle diff bundles/orbit build/orbit")
def diff(
    one: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a bundle.")],
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Directory of another.")],
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two bundles: fields of the manifest, and files by their hashes.

    Exit codes: 0 they are the same, 1 they differ, or one is no bundle, 2 usage.
    """
    first, second = (_loaded("diff", directory, verify=False).manifest for directory in (one, other))
    fields, files = _differences(first, second)
    if as_json:
        print(json.dumps({"fields": fields, "files": files}, ensure_ascii=False))
    else:
        for name, (a, b) in fields.items():
            print(f"{name}: {_shown(a)} → {_shown(b)}")
        for name, what in files.items():
            print(f"{name}: {what}")
        if not fields and not files:
            print("no difference")
    raise typer.Exit(1 if fields or files else 0)


@app.command(epilog="Example: geofix bundle agree bundles/orbit photos/ --provider OpenVINO_BF16")
def agree(
    directory: DirArgument,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns or URLs.")],
    provider: Annotated[str, typer.Option(help="As in GEOFIX_PROVIDERS.")] = "OpenVINO_BF16",
    as_json: JsonOption = False,
) -> None:
    """Measure whether a bundle says the same of your images on another execution provider as on the CPU in float32.

    Exit codes: 0 it does (the same best cell for 99 % of the images, embeddings with a mean cosine of 0.999), 1 it does not, or
    there is no such provider or no image, 2 usage.
    """
    from dataclasses import asdict

    from geofix.agreement import COSINE, TOP_CELL, compare
    from geofix.cli.inputs import find_inputs
    from geofix.cli.output import say
    from geofix.errors import GeofixError
    from geofix.images import ImageLimits, read_input

    bundle = _loaded("agree", directory, verify=True)

    def prepared() -> Iterator[NDArray[np.float32]]:
        for found in find_inputs(images):
            try:
                yield read_input(found.read(), bundle.manifest.preprocessing, ImageLimits())
            except GeofixError as error:
                say(f"geofix bundle agree: {found.name}: {error.message}")

    try:
        bundle.manifest.check_takes_images()
        result = compare(bundle, provider, prepared())
    except (GeofixError, ValueError) as error:
        say(f"geofix bundle agree: {error}")
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps({**asdict(result), "holds": result.holds}))
    else:
        print(
            f"{result.images} images, {provider} against float32 on the CPU\n"
            f"  the same best cell     {result.top_cell:.1%} (must {TOP_CELL:.0%})\n"
            f"  cosine of embeddings   {result.cosine:.5f} on average (must {COSINE}), {result.worst_cosine:.5f} at worst\n"
            f"  backbone, one thread   {result.faster:.2f} times as fast\n"
            + ("It agrees." if result.holds else "It does not agree: do not serve this bundle with it.")
        )
    raise typer.Exit(0 if result.holds else 1)


def _loaded(command: str, directory: Path, verify: bool) -> Bundle:
    from geofix.bundle import Bundle
    from geofix.cli.output import say
    from geofix.errors import GeofixError

    try:
        return Bundle.load(directory, verify)
    except GeofixError as error:
        say(f"geofix bundle {command}: {error.message}")
        raise typer.Exit(1) from error


def _misfits(bundle: Bundle) -> list[str]:
    """What does not fit together although every file is as the manifest says."""
    import numpy as np
    import pyarrow.parquet as pq

    from geofix.bundle import GALLERY

    _ = bundle.cells, bundle.calibration  # raise where they contradict the manifest
    columns = ["id", "lat", "lon", "cell_id", "embedding"]
    table = pq.read_table(bundle.path(GALLERY), columns=columns)
    manifest, found = bundle.manifest, []
    ids = table["id"].to_pylist()
    if len(set(ids)) != len(ids):
        found.append(f"{GALLERY} has ids that occur twice")
    cells = table["cell_id"].to_numpy()
    if len(cells) and not 0 <= cells.min() <= cells.max() < manifest.cell_count:
        found.append(f"{GALLERY} names cells that are not among the {manifest.cell_count}")
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    if not (np.all(np.abs(lat) <= 90) and np.all(np.abs(lon) <= 180)):
        found.append(f"{GALLERY} has places that are not on the Earth")
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    if flat.size != len(ids) * manifest.embedding_dim:
        found.append(f"{GALLERY}: embeddings do not have {manifest.embedding_dim} values")
    elif flat.size and np.abs(np.linalg.norm(flat.reshape(len(ids), -1), axis=1) - 1).max() > 0.01:
        found.append(f"{GALLERY}: embeddings are not of norm 1")
    return found


def _summary(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    calibration = bundle.calibration
    return {
        "version": bundle.version,
        "gallery_version": bundle.gallery_version,
        "description": manifest.description,
        "license": manifest.license,
        "feature_dim": manifest.feature_dim,
        "embedding_dim": manifest.embedding_dim,
        "cells": manifest.cell_count,
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
        "decision": manifest.decision.model_dump(mode="json"),
        "calibrated": calibration.radius is not None,
        "calibrated_on": f"{calibration.queries} {calibration.source}".strip(),
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "files": {name: entry.model_dump() for name, entry in sorted(manifest.files.items())},
    }


def _differences(one: Manifest, other: Manifest) -> tuple[dict[str, tuple[Any, Any]], dict[str, str]]:
    a, b = (manifest.model_dump(mode="json", exclude={"files"}) for manifest in (one, other))
    fields = {name: (a[name], b[name]) for name in a if a[name] != b[name]}
    files = {}
    for name in sorted({*one.files, *other.files}):
        mine, theirs = one.files.get(name), other.files.get(name)
        if mine is None or theirs is None:
            files[name] = "only in the second" if mine is None else "only in the first"
        elif mine.sha256 != theirs.sha256:
            files[name] = f"{mine.bytes:,} → {theirs.bytes:,} bytes"
    return fields, files


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
