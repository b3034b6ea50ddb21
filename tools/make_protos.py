"""Generates the Python stubs of proto/geofix/v1 below a source root (shared/ in the repository)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path) -> None:
    """Write `target`/geofix/v1/*_pb2*.py and .pyi.

    Raises:
        subprocess.CalledProcessError: protoc refused a proto; its message is on stderr.
    """
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "proto/geofix/v1").glob("*.proto"))
    outputs = [f"--{kind}={prefix}{target}" for kind, prefix in _OUTPUTS]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, *protos]
    # protoc looks for its mypy plugins on the PATH, where a virtual environment that is not activated is missing.
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(command, cwd=ROOT, check=True, env={"PATH": path})
    package = target / "geofix/v1"
    for stub in package.glob("*_pb2_grpc.py"):
        if "Servicer" not in stub.read_text():  # a proto without a service gives an empty file
            stub.unlink()
            stub.with_suffix(".pyi").unlink()
    (package / "__init__.py").write_text(
        '"""Generated from proto/geofix/v1 by `make protos`; never edited by hand."""\n'
    )


_OUTPUTS = (("python_out", ""), ("grpc_python_out", ""), ("mypy_out", "quiet:"), ("mypy_grpc_out", "quiet:"))

if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve())
