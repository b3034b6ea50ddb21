"""What is read from files and read again when they change: keys, tokens, lists. A change that cannot be read changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from geofix.errors import ConfigurationError
from geofix.telemetry.metrics import RELOAD_FAILURES

log = logging.getLogger("geofix.watched")

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""Shortest time between two looks at the files."""

Stamp = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[T]):
    """A value made of some files, made anew when one of them is another than before. For any thread.

    A rotation may be half done when it is looked at (a certificate without its key), so a value that cannot be made leaves the
    last good one in place, is logged once, counted, and tried again at each look until it can be.

    Args:
        setting: the variable that names the files, for messages.
        paths: the files. Symbolic links are followed, as Kubernetes switches them when a Secret changes.
        make: reads them; it raises ConfigurationError.
        clock: seconds, monotonic.

    Raises:
        ConfigurationError: the value cannot be made at the start.
    """

    def __init__(
        self,
        setting: str,
        paths: Sequence[Path],
        make: Callable[[], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._setting, self._paths, self._make, self._clock = setting, tuple(paths), make, clock
        self._lock = threading.Lock()
        self._stamp = self._look()  # before it is read: what changes meanwhile is read again
        self._refused: Stamp | None = None
        self._value = make()
        self._next = clock() + LOOK_EVERY_S
        RELOAD_FAILURES.add(0, setting)  # so that the first failure is an increase
        self.generation = 0
        """How often the value has changed."""

    def get(self) -> T:
        """The value, as of a moment ago."""
        if self._clock() >= self._next:
            with self._lock:
                if self._clock() >= self._next:
                    self._refresh()
                    self._next = self._clock() + LOOK_EVERY_S
        return self._value

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            value = self._make()
        except ConfigurationError as error:
            if stamp != self._refused:
                self._refused = stamp
                RELOAD_FAILURES.add(1, self._setting)
                log.error("%s; what was read before is kept", error.message)
            return
        self._value, self._stamp, self._refused = value, stamp, None
        self.generation += 1
        log.info("%s was read again", self._setting)

    def _look(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_secret(path: Path, setting: str) -> str:
    """The text of a file without the white space around it.

    Raises:
        ConfigurationError: it cannot be read, or is empty.
    """
    text = read_bytes(path, setting).decode(errors="replace").strip()
    if not text:
        raise ConfigurationError(f"{setting}: {path} is empty")
    return text


def read_bytes(path: Path, setting: str) -> bytes:
    """The bytes of a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read ({error.strerror})") from error
