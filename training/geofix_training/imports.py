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

app = typer.Typer(
    help="Make a bundle of published weights, which you bring; needs the extra `swc`.", no_args_is_help=True
)

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
    with _told("swc"):
        from geofix_training.import_swc import import_swc
        from geofix_training.progress import bar

        with bar("gallery") as progress:
            done = import_swc(backbone, mvmf, rrm, gallery, out, progress, name)
        repeated = f", {done.repeated:,} repeated rows left out" if done.repeated else ""
        print(f"{done.bundle.version} in {out}: gallery of {done.gallery_images:,} images{repeated}")


@contextlib.contextmanager
def _told(command: str) -> Iterator[None]:
    """Errors as one line on stderr and exit code 1; what is not installed is one of them."""
    from geofix.cli.output import say
    from geofix.errors import GeofixError

    try:
        yield
    except ModuleNotFoundError as error:
        say(
            f"geofix bundle import {command}: this needs {error.name}, which is not installed: pip install 'geofix[swc]'"
        )
        raise typer.Exit(1) from error
    except GeofixError as error:
        say(f"geofix bundle import {command}: {error.message}")
        raise typer.Exit(1) from error
    except OSError as error:
        say(f"geofix bundle import {command}: {error}")
        raise typer.Exit(1) from error
