"""The commands of `geofix`, put together."""

from __future__ import annotations

import typer

from geofix.cli.demo import demo
from geofix.cli.evaluate import evaluate
from geofix.cli.locate import locate
from geofix.cli.up import up

app = typer.Typer(
    name="geofix",
    help="Find out where on Earth an image was taken, and how sure that is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(locate)
app.command()(up)
app.command()(demo)
app.command()(evaluate)


@app.command()
def version() -> None:
    """Print the version of geofix."""
    from geofix import __version__

    print(f"geofix {__version__}")
