"""The commands of `geofix`, put together."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from geofix.cli import bundle
from geofix.cli.bench import bench
from geofix.cli.demo import demo
from geofix.cli.doctor import doctor
from geofix.cli.evaluate import evaluate
from geofix.cli.gallery import app as gallery
from geofix.cli.locate import locate
from geofix.cli.plan import plan
from geofix.cli.token import token
from geofix.cli.up import up

app = typer.Typer(
    name="geofix",
    help="Find out where on Earth an image was taken, and how sure that is.",
    epilog="Exit codes: 0 all done, 1 something failed or is wrong, 2 usage, 130 Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    """Each on a line of its own under the help."""
    return "\n\n".join(["Examples:", *lines])


app.command(
    epilog=_examples(
        "geofix locate photo.jpg holiday/ 'album/**/*.png'",
        "geofix locate --json photos/ > answers.jsonl",
        "geofix locate --map map.html --write-exif located/ photos/",
        "curl -s https://example.org/photo.jpg | geofix locate -",
        "geofix locate --server gateway.example.org:443 --tls photo.jpg",
    )
)(locate)
app.command(epilog=_examples("geofix up", "geofix up --bundle bundles/orbit --port 50052"))(up)
app.command(epilog=_examples("geofix demo samples"))(demo)
app.command(
    epilog=_examples(
        "geofix evaluate --images photos --truth photos/truth.csv",
        "geofix evaluate --bundle bundles/orbit --images photos --truth photos/truth.csv",
    )
)(evaluate)
for point in entry_points(
    group="geofix.bundle"
):  # commands of the training code, which the shared library does not import
    bundle.app.add_typer(point.load(), name=point.name)
app.add_typer(bundle.app, name="bundle")
app.command(epilog=_examples("geofix doctor", "geofix doctor --server gateway.example.org:443 --tls --json"))(doctor)
app.command(epilog=_examples("geofix bench samples", "geofix bench --concurrency 16 --seconds 30 samples"))(bench)
app.command(epilog=_examples("geofix plan --qps 50 --gallery 1000000 --p99 1"))(plan)
app.command(epilog=_examples("geofix token museum", "geofix token curator --role locate --role admin"))(token)
app.add_typer(gallery)


@app.command()
def version() -> None:
    """Print the version of geofix."""
    from geofix import __version__

    print(f"geofix {__version__}")
