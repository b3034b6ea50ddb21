"""What every command of `geofix gallery` does: open bundle and gallery, say what is wrong in one line, show how far it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from geofix.bundle import Bundle
    from geofix.gallery.admin import GalleryAdmin


@contextlib.contextmanager
def session(
    command: str,
    bundle: Path | None,
    admin: str,
    data_dir: Path | None,
    around: AbstractContextManager[None] = contextlib.nullcontext(),
) -> Iterator[tuple[Bundle, GalleryAdmin]]:
    """The bundle and the gallery, inside `around`; errors of ours are one line and exit code 1 (settings: 2)."""
    from geofix.cli.gallery_access import chosen_bundle, opened
    from geofix.cli.output import say
    from geofix.errors import ConfigurationError, GeofixError

    try:
        loaded = chosen_bundle(bundle)
        with around, opened(loaded, admin, data_dir) as access:
            yield loaded, access
    except GeofixError as error:
        say(f"geofix gallery {command}: {error.message}")
        raise typer.Exit(2 if isinstance(error, ConfigurationError) else 1) from error


@contextlib.contextmanager
def bar(what: str) -> Iterator[Steps]:
    """Shows how far something has come."""
    steps = Steps(what)
    try:
        yield steps
    finally:
        steps.close()


class Steps:
    """Progress on stderr: a bar with rate and time left on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, what: str) -> None:
        import time

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._what, self._clock = what, time.monotonic
        self._began = self._said = self._clock()
        console = Console(stderr=True)
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("", rate="", total=None)

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done; 0: nobody knows of how many."""
        now = self._clock()
        rate = done / max(now - self._began, 1e-3)
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total or None, rate=f"{rate:,.0f}/s")
        elif now - self._said > 10:
            from geofix.cli.output import say

            of = f" of {total:,}" if total else ""
            left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
            say(f"{self._what}: {done:,}{of}, {rate:,.1f} a second{left}")
            self._said = now

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.stop()
