"""What all tests share: hypothesis without deadlines (machines are busy), the folder of large data, allowed skips."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With GEOFIX_TEST_REQUIRE=all a test that is skipped because something is missing on the machine fails."""
    report = yield
    allowed = hasattr(report, "wasxfail") or NO_SHARED in str(report.longrepr)
    if report.skipped and not allowed and os.environ.get("GEOFIX_TEST_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"skipped, and GEOFIX_TEST_REQUIRE=all: {report.longrepr}"
    return report
