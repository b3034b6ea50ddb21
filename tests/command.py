"""Runs the `geofix` command as people and scripts do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from platforms import clean_environment

GEOFIX = str(Path(sys.executable).with_name("geofix"))
SECONDS = 120
"""Far more than any command takes, even on a busy machine."""
PLACES = {"alps.png": (47.0, 10.0), "sydney.jpg": (-33.0, 151.0), "pampas.webp": (-35.0, -64.0)}
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
Record = dict[str, Any]
Word = str | bytes | Path


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[Record]:
        """What `--json` printed: one object a line."""
        return [json.loads(line) for line in self.out.removesuffix("\n").split("\n")]

    def row(self, name: str) -> str:
        """The one line of a table that names a file."""
        (line,) = [line for line in self.out.splitlines() if name in line]
        return line


def geofix(*words: Word, cwd: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})) -> Ran:
    ended = subprocess.run(
        [GEOFIX, *words],
        cwd=cwd,
        env={**clean_environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    ran = Ran(ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    assert "Traceback" not in ran.err, ran.err
    return ran
