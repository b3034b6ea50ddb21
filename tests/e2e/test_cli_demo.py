"""`geofix demo` as people and scripts use it: a real process that asks a real platform."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from command import GEOFIX, SECONDS, Ran, geofix
from geofix.bundle import GALLERY, Bundle
from platforms import clean_environment, wait_until

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Room:
    """A directory for all that a demo may write, its home too, and a mark that all its processes inherit."""

    directory: Path
    mark: str

    @property
    def variables(self) -> dict[str, str]:
        here = str(self.directory)
        return {"TMPDIR": here, "HOME": here, "XDG_CACHE_HOME": here, "GEOFIX_TEST_MARK": self.mark}

    def processes(self) -> list[int]:
        """By the environment that children inherit; Valkey overwrites its own, so by its directory."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (
                    self.mark.encode() in (entry / "environ").read_bytes()
                    or (entry / "cwd").readlink().is_relative_to(self.directory)
                ):
                    found.append(int(entry.name))
        return found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path / "room", uuid.uuid4().hex)
    room.directory.mkdir()
    yield room
    for pid in room.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_demo_locates_and_leaves_nothing(bundle: Bundle, photos: Path, located: Ran, room: Room) -> None:
    ran = geofix("demo", photos, "--bundle", bundle.directory, variables=room.variables)
    assert ran.code == 0, ran.err
    for record in located.records:
        row = ran.row(record["file"])
        assert record["place"] in row
        assert f"{record['distance_km']:,.0f} km" in row
    assert re.search(r"gateway +127\.0\.0\.1:\d+  ready after", ran.err)
    assert "ready after" not in ran.out
    assert room.processes() == []
    assert list(room.directory.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_leaves_nothing(
    bundle: Bundle, photos: Path, room: Room, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    said = tmp_path / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            [GEOFIX, "demo", photos, "--bundle", bundle.directory],
            env=clean_environment() | room.variables,
            stdout=out,
            stderr=out,
        )
    wait_until(lambda: "ready after" in said.read_text() or process.poll() is not None, SECONDS, said.read_text)
    assert len(room.processes()) > 3
    process.send_signal(number)
    assert process.wait(SECONDS) == code
    assert "Traceback" not in said.read_text()
    assert room.processes() == []
    assert list(room.directory.iterdir()) == []


def test_a_demo_of_a_broken_bundle_says_what_to_do(bundle: Bundle, photos: Path, room: Room, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bundle.directory, tmp_path / "broken"))
    with (broken / GALLERY).open("ab") as file:
        file.write(b"\0")
    ran = geofix("demo", photos, "--bundle", broken, variables=room.variables)
    assert (ran.code, ran.out) == (1, "")
    assert f"bundle {broken}: {GALLERY}" in ran.err
    assert "copy the bundle again" in ran.err
    none = geofix("demo", photos, variables={**room.variables, "GEOFIX_BUNDLE": str(photos)})
    assert (none.code, none.out) == (1, "")
    assert "name a bundle's directory" in none.err
    assert room.processes() == []


def test_a_demo_without_images_is_usage(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    for samples in (tmp_path, tmp_path / "none"):
        ran = geofix("demo", samples, "--bundle", bundle.directory, variables={"COLUMNS": "1000"})
        assert (ran.code, ran.out) == (2, "")
        assert f"no JPEG, PNG or WebP image in {samples}" in ran.err
