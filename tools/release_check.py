"""`make release-check`: the wheel and the source archive that a release would publish, tried as users get them. Some minutes.

    python tools/release_check.py [--only EXTRA...]

Builds both in an isolated environment, the wheel from the archive, installs the wheel into an empty environment for each extra,
imports what that extra is for, and runs tests of pure code and `geofix demo` against the installed wheel, below build/release.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build/release"
IMPORTS = {
    "": "geofix, geofix.client, geofix.cli",
    "client-images": "geofix.client, PIL",
    "classifier,cpu": "geofix_classifier.service",
    "embedder,cpu": "geofix_embedder.service",
    "retrieval": "geofix_retrieval.service",
    "gateway": "geofix_gateway.service",
    "web": "geofix_web.app",
    "gallery": "geofix.cli.gallery, geofix.gallery.remote, geofix.gallery.backup",
}
"""What must be importable with an extra and nothing else; "" is the package alone. Networks need an ONNX Runtime beside."""
NEVER = "torch", "timm", "torchvision"
TESTED = [
    *(
        f"tests/unit/test_{name}.py"
        for name in ("geo", "cells", "bundle", "decision", "images", "onnx", "client", "places")
    ),
    "tests/unit/test_public_names.py",
    "tests/e2e/test_cli_demo.py",
]
TEST_TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "onnx")


def run(*command: str | Path, where: Path = ROOT) -> None:
    """Run a command, and end with its exit code where it fails."""
    ended = subprocess.run(list(map(str, command)), cwd=where, check=False)
    if ended.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")


def environment(name: str) -> Path:
    """The Python of a new, empty virtual environment."""
    directory = BUILD / name
    shutil.rmtree(directory, ignore_errors=True)
    run(sys.executable, "-m", "venv", directory)
    return directory / "bin/python"


def install(python: Path, *packages: str) -> None:
    """Install packages at the versions that were tested."""
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", ROOT / "constraints.txt", *packages)


def build() -> Path:
    """Build the source archive and, from it, the wheel; the wheel's path."""
    python, out = environment("tools"), BUILD / "dist"
    shutil.rmtree(out, ignore_errors=True)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build==1.3.0")
    run(python, "-m", "build", "--outdir", out, ROOT)
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    check_contents(wheel, archive)
    return wheel


def check_contents(wheel: Path, archive: Path) -> None:
    """The wheel has every module and data file of the packages and nothing else; the archive what a build and the tests need."""
    packages = [
        path for place in ("shared", "services", "training") for path in (ROOT / place).iterdir() if path.is_dir()
    ]
    command = ["git", "ls-files", *map(str, packages)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {line.partition("/")[2] for line in listed.splitlines()}
    with zipfile.ZipFile(wheel) as file:
        there = {name for name in file.namelist() if ".dist-info/" not in name}
    if there != wanted:
        sys.exit(f"{wheel.name}: missing {sorted(wanted - there)[:5]}, too much {sorted(there - wanted)[:5]}")
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    for needed in ("LICENSE", "pyproject.toml", "constraints.txt", "proto/geofix/v1/types.proto", "tests/conftest.py"):
        if needed not in inside:
            sys.exit(f"{archive.name} lacks {needed}")
    print(
        f"{wheel.name}: {len(there)} files, {wheel.stat().st_size / 1e6:.1f} MB; {archive.name}: {len(inside)} entries"
    )


def try_extra(wheel: Path, extra: str) -> None:
    """Install the wheel with one extra into an empty environment, import what it is for, look for what must not come with it."""
    python = environment(f"extra-{extra or 'none'}")
    install(python, f"{wheel}[{extra}]" if extra else str(wheel))
    run(python, "-m", "pip", "check", "--quiet", "--disable-pip-version-check")
    absent = f"assert not [name for name in {NEVER!r} if importlib.util.find_spec(name)]"
    run(python, "-W", "error", "-c", f"import importlib.util, {IMPORTS[extra]}; {absent}", where=BUILD)
    print(f"geofix[{extra}]: imports {IMPORTS[extra]}" if extra else f"geofix: imports {IMPORTS[extra]}")


def try_tests(wheel: Path) -> None:
    """Run tests against the installed wheel, not against the sources."""
    python = environment("tests")
    install(python, f"{wheel}[up,cpu]", *TEST_TOOLS)
    inside = (
        f"import geofix, pathlib; assert pathlib.Path(geofix.__file__).is_relative_to({str(BUILD)!r}), geofix.__file__"
    )
    run(python, "-c", inside)
    run(python, "-m", "pytest", "-q", *TESTED)


def main() -> None:
    """Try everything, or some of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*IMPORTS, "tests"]
    parser.add_argument("--only", choices=every, nargs="+", default=every, help="some extras, or the tests")
    chosen = parser.parse_args().only
    BUILD.mkdir(parents=True, exist_ok=True)
    wheel = build()
    for extra in chosen:
        if extra == "tests":
            try_tests(wheel)
        else:
            try_extra(wheel, extra)
    if chosen == every:
        print("the wheel can be released")


if __name__ == "__main__":
    main()
