"""`geofix-train`: the commands that make bundles."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from geofix.errors import GeofixError
from geofix_training.commands import register

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

register(app)

CONFIGS = Path(__file__).parent / "configs"

RasterOption = Annotated[
    Path, typer.Option(help="Web Mercator MBTiles, or an equirectangular image, of the whole Earth")
]


@app.command()
def orbit(
    raster: RasterOption,
    config: Annotated[Path, typer.Option(help="the experiment, YAML")] = CONFIGS / "orbit.yaml",
    out: Annotated[Path, typer.Option(help="directory for the bundle")] = Path("build/orbit"),
    work: Annotated[Path, typer.Option(help="directory for what takes long; a second run goes on there")] = Path(
        "build/work"
    ),
) -> None:
    """Make a bundle that locates pictures of the Earth from above."""
    from geofix_training.config import read_config
    from geofix_training.orbit import Orbit
    from geofix_training.raster import open_raster

    console = Console(stderr=True)
    experiment = read_config(config)
    run = Orbit(open_raster(raster), raster, experiment, work, console)
    bundle = run.run(out)
    size = sum(path.stat().st_size for path in bundle.directory.iterdir()) / 2**20
    print(f"{bundle.version} in {bundle.directory}, {size:.1f} MiB")


@app.command()
def check(
    bundle: Annotated[Path, typer.Option(help="directory of the bundle")],
    raster: Annotated[Path | None, typer.Option(help="raster to cut fresh crops from")] = None,
    foreign: Annotated[Path | None, typer.Option(help="folder of pictures outside the model's domain")] = None,
    count: Annotated[int, typer.Option(min=100, help="fresh crops, and at most so many foreign pictures")] = 2000,
    seed: Annotated[int, typer.Option(help="another seed, other crops")] = 99_000,
) -> None:
    """Print, as JSON, coverage and clusters on fresh crops, and how many foreign pictures are refused."""
    from geofix.bundle import Bundle
    from geofix_training.check import check_crops, check_foreign
    from geofix_training.raster import open_raster

    loaded = Bundle.load(bundle)
    if raster is not None:
        report = check_crops(loaded, open_raster(raster), count, (150.0, 800.0), seed)
        print(json.dumps({name: round(value, 2) for name, value in report.items()}))
    if foreign is not None:
        report = check_foreign(loaded, foreign, count, seed, lambda _done, _total: None)
        print(json.dumps({name: round(value, 2) for name, value in report.items()}))


@app.command()
def samples(raster: RasterOption, out: Annotated[Path, typer.Option(help="folder")] = Path("samples")) -> None:
    """Write the sample images of `make demo`."""
    from geofix_training.raster import open_raster
    from geofix_training.samples import write_samples

    write_samples(open_raster(raster), out)


def main() -> None:
    """Entry point: errors of ours are one line on stderr; exit 2 for settings, 1 for the rest."""
    from geofix.errors import ConfigurationError

    try:
        app()
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        sys.exit(2)
    except (GeofixError, OSError) as error:
        print(getattr(error, "message", None) or error, file=sys.stderr)
        sys.exit(1)
