"""A Chromium for the tests of the page, and how it is started."""

from __future__ import annotations

from debian import program

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Path of a Chromium; without one the test is skipped with the reason."""
    return program("chromium", "chromium-browser", "google-chrome", package="chromium")
