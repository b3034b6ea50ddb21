"""The site builds without a warning and without a network, and its generated pages are what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_generated_pages_are_what_the_code_says() -> None:
    ended = run("tools/make_reference.py", "--check")
    assert ended.returncode == 0, ended.stderr


def test_the_site_builds_strictly_and_asks_nobody(tmp_path: Path) -> None:
    ended = run("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site"))
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "site/tutorial.html").read_text()
    loaded = re.findall(r'<(?:script|img|link)[^>]*?(?:src|href)="(https?:[^"]+)"', page)
    assert not [url for url in loaded if "canonical" not in url], loaded
    assert "must not be used" in (tmp_path / "site/responsible-use.html").read_text()
