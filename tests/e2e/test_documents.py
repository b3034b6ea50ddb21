"""The tutorial's commands and the notebook do what they say: run against a real platform."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import SECONDS
from geofix.bundle import Bundle
from platforms import clean_environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e


@pytest.fixture
def checkout(server: str, bundle: Bundle, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder like a checkout, and variables that lead to the platform of the tests."""
    for name in ("samples", "bundles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/client.ipynb", tmp_path / "docs")
    variables = {
        "GEOFIX_SERVER": server,
        "GEOFIX_BUNDLE": str(bundle.directory),
        "GEOFIX_DATA_DIR": str(tmp_path / "data"),
    }
    return tmp_path, {**clean_environment(), **variables}


def test_every_command_of_the_tutorial_runs(checkout: tuple[Path, dict[str, str]]) -> None:
    folder, variables = checkout
    text = (ROOT / "docs/tutorial.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 8
    for line in lines:
        ended = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        # The platform of the tests serves a small bundle, in whose gallery Italy may have no image: then it says so.
        empty = "--country" in line and "area" in ended.stderr
        assert ended.returncode == 0 or empty, f"{line}\n{ended.stdout}{ended.stderr}"
    assert (folder / "map.html").is_file()
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "with Client() as client:" in python
    address = variables["GEOFIX_SERVER"]
    code = python.replace("Client()", f"Client({address!r}, timeout_s=60)")
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, check=True, timeout=SECONDS)


def test_the_notebook_runs(checkout: tuple[Path, dict[str, str]]) -> None:
    folder, variables = checkout
    code = (
        "import nbformat, nbclient; book = nbformat.read('client.ipynb', as_version=4);"
        "nbclient.NotebookClient(book, timeout=100).execute();"
        "outputs = str([cell.get('outputs') for cell in book.cells]);"
        "assert '<svg' in outputs and 'IMAGE_UNREADABLE' in outputs, outputs"
    )
    environment = {**variables, "JUPYTER_PLATFORM_DIRS": "1", "HOME": str(folder), "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder / "docs",
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
