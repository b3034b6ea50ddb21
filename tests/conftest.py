"""What all tests share: hypothesis without deadlines (machines are busy), the folder of large data, allowed skips."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from milvus_server import MilvusServer

hypothesis.settings.register_profile("geofix", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "geofix")

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[2] / "shared"
NO_SHARED = "there is no folder of large data (../shared)"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is too large or not free enough for the repository; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(NO_SHARED)
    return SHARED / "data"


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real Milvus server that every test may use, each with collections of its own; who kills it starts one of its own."""
    from milvus_server import install, real_milvus

    try:
        install()
    except subprocess.SubprocessError as error:
        pytest.skip(f"no Milvus server can be installed on this machine: {error}")
    with real_milvus(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With GEOFIX_TEST_REQUIRE=all a test that is skipped because something is missing on the machine fails."""
    report = yield
    allowed = hasattr(report, "wasxfail") or NO_SHARED in str(report.longrepr)
    if report.skipped and not allowed and os.environ.get("GEOFIX_TEST_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"skipped, and GEOFIX_TEST_REQUIRE=all: {report.longrepr}"
    return report
