"""What the supervisor tells people: one line an event, and a bar while the gallery loads (on a terminal)."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

_NAME_WIDTH = 11


class Reporter:
    """Writes to a console; colours and the bar appear only where that is a terminal."""

    def __init__(self, console: Console | None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._announced = False

    def say(self, name: str, message: str, style: str = "") -> None:
        """A line about one child."""
        line = Text(f"{name:<{_NAME_WIDTH}} ", style="bold")
        line.append(message, style=f"not bold {style}")
        self._console.print(line, highlight=False, soft_wrap=True)

    def line(self, message: str, style: str = "") -> None:
        """A line about the whole."""
        self._console.print(Text(message, style=style), highlight=False, soft_wrap=True)

    def loading(self, done: int, total: int) -> None:
        """How far the gallery is loaded; may be called often."""
        if not total:
            return
        if not self._console.is_terminal:
            if not self._announced:
                self.say("gallery", f"loading {total:,} images (only the first start does)")
                self._announced = True
            return
        if self._bar is None:
            columns = (
                TextColumn("[bold]gallery    [/bold] loading"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("load", total=total)
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
