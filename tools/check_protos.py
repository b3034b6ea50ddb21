"""Checks the contract: buf's lint and format, no breaking change since the last release, and stubs that are current.

    python tools/check_protos.py              # what `make check` runs
    python tools/check_protos.py --release    # proto/released.binpb becomes the contract of now: once a release

The last release is the committed image proto/released.binpb, so that a shallow clone or a source archive is checked as well, and
the last tag where there is one.
"""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from make_protos import ROOT, generate

BUF = str(Path(sys.executable).parent / "buf")
RELEASED = ROOT / "proto/released.binpb"
"""The contract of the last release, as buf builds it."""


def run(*command: str) -> None:
    """Run buf in proto/, and end with its exit code where it finds something."""
    result = subprocess.run([BUF, *command], cwd=ROOT / "proto", check=False)
    if result.returncode:
        sys.exit(f"buf {' '.join(command)} found the above")


def breaking(protos: Path, against: str) -> str:
    """What of a contract, in a directory of protos, breaks users of an older one: buf's words, a line each, or nothing."""
    command = [BUF, "breaking", "--against", against]
    result = subprocess.run(command, cwd=protos, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr


def check_breaking(against: str) -> None:
    """End with what breaks users of an older contract."""
    if found := breaking(ROOT / "proto", against):
        sys.exit(f"{found}buf breaking --against {against} found the above")


def stale_stubs() -> list[str]:
    """Names of committed stubs that differ from what the protos generate now, or that one side lacks."""
    committed = ROOT / "shared/geofix/v1"
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "geofix/v1"
        names = {path.name for side in (committed, fresh) for path in side.glob("*.py*")}
        return sorted(
            name
            for name in names
            if not ((committed / name).is_file() and (fresh / name).is_file())
            or not filecmp.cmp(committed / name, fresh / name, shallow=False)
        )


def last_tag() -> str | None:
    """The newest tag that main descends from, or None before the first release."""
    command = ["git", "describe", "--tags", "--abbrev=0"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


if __name__ == "__main__":
    if sys.argv[1:] == ["--release"]:
        run("build", "--output", RELEASED.name)
        sys.exit(0)
    run("lint")
    run("format", "--diff", "--exit-code")
    check_breaking(RELEASED.name)
    tag = last_tag()
    if tag is not None:
        check_breaking(f"../.git#tag={tag},subdir=proto")
    stale = stale_stubs()
    if stale:
        sys.exit(f"run `make protos`: {', '.join(stale)} differ from what the protos generate")
    print("protos: lint, format and stubs are as they should be")
