"""`geofix bundle import`: other people's published weights as bundles.

Registered as an entry point of `geofix bundle`. Nothing here imports torch before a command runs, so that the command line
starts at once, and says what to install where it is not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make a bundle of published weights, which you bring.", no_args_is_help=True)

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Directory for the bundle; new or empty.")]


def _file(name: str, what: str) -> object:
    return typer.Option(name, metavar="FILE", help=what, show_default=False)


@app.command(
    epilog="Example: geofix bundle import swc --backbone efficientnet_backbone.pt --mvmf mvmf_head.pt --rrm rrm_head.pt "
    "--gallery back_coll_features.hdf5 build/swc"
)
def swc(
    out: OutArgument,
    backbone: Annotated[Path, _file("--backbone", "efficientnet_backbone.pt: the network from image to feature.")],
    mvmf: Annotated[Path, _file("--mvmf", "mvmf_head.pt: the cells and their weights.")],
    rrm: Annotated[Path, _file("--rrm", "rrm_head.pt: the retrieval module.")],
    gallery: Annotated[
        Path | None, _file("--gallery", "back_coll_features.hdf5; without it the gallery is empty.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The bundle's name.")] = "swc",
) -> None:
    """Import the published Search within Cell (EfficientNet-B4) from its authors' files.

    Exit codes: 0 done, 1 a file is not what it should be (the message names file and key), 2 usage.
    """
    with _told("swc", extra="swc"):
        from geofix_training.import_swc import import_swc
        from geofix_training.progress import bar

        with bar("gallery") as progress:
            done = import_swc(backbone, mvmf, rrm, gallery, out, progress, name)
        repeated = f", {done.repeated:,} repeated rows left out" if done.repeated else ""
        print(f"{done.bundle.version} in {out}: gallery of {done.gallery_images:,} images{repeated}")


@app.command(
    epilog="Example: pip install --no-deps geoclip && geofix bundle import geoclip --clip clip/model.safetensors build/geoclip"
)
def geoclip(
    out: OutArgument,
    clip: Annotated[
        Path, _file("--clip", "CLIP ViT-L/14 under transformers' names: .safetensors, or as torch saves it.")
    ],
    package: Annotated[
        Path | None,
        typer.Option(
            "--package",
            metavar="DIR",
            help="The package geoclip, or its unpacked wheel; without it the one that is installed.",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[int, typer.Option("--cells", min=6, help="Cells to partition the gallery's places into.")] = 2000,
    name: Annotated[str, typer.Option("--name", help="The bundle's name.")] = "geoclip",
) -> None:
    """Import GeoCLIP from the package `geoclip` and a CLIP.

    Exit codes: 0 done, 1 a file is not what it should be (the message names file and key), 2 usage.
    """
    with _told("geoclip", extra="train"):
        from geofix_training.geoclip import installed_package
        from geofix_training.import_geoclip import import_geoclip
        from geofix_training.progress import bar

        with bar("gallery") as progress:
            done = import_geoclip(package or installed_package(), clip, out, progress, cells, name)
        print(
            f"{done.bundle.version} in {out}: gallery of {done.gallery_images:,} places, {done.repeated:,} repeated rows "
            f"left out; {done.bundle.manifest.cell_count:,} cells"
        )


@contextlib.contextmanager
def _told(command: str, extra: str) -> Iterator[None]:
    """Errors as one line on stderr and exit code 1; what is not installed is one of them."""
    from geofix.cli.output import say
    from geofix.errors import GeofixError

    try:
        yield
    except ModuleNotFoundError as error:
        say(
            f"geofix bundle import {command}: this needs {error.name}, which is not installed: pip install 'geofix[{extra}]'"
        )
        raise typer.Exit(1) from error
    except GeofixError as error:
        say(f"geofix bundle import {command}: {error.message}")
        raise typer.Exit(1) from error
    except OSError as error:
        say(f"geofix bundle import {command}: {error}")
        raise typer.Exit(1) from error
