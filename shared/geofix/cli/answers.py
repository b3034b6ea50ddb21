"""Asking about many files: a few at once, answers in the order of the files, an error for one never in the way of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from geofix.client.ordered import map_ordered
from geofix.client.sources import read_file
from geofix.errors import GeofixError

IN_FLIGHT = 4
"""Files asked about at once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What became of one file: a value or an error, and the seconds that it took as the caller saw them."""

    path: Path
    value: T | None
    error: GeofixError | None
    elapsed_s: float


def answer_files(paths: Sequence[Path], ask: Callable[[bytes], T]) -> Iterator[Answered[T]]:
    """Ask about the bytes of every file, `IN_FLIGHT` at a time; yields in the order of `paths`."""
    return map_ordered(paths, lambda path: _answer(path, ask), IN_FLIGHT)


def _answer(path: Path, ask: Callable[[bytes], T]) -> Answered[T]:
    started = time.perf_counter()
    try:
        return Answered(path, ask(read_file(path)), None, time.perf_counter() - started)
    except GeofixError as error:
        return Answered(path, None, error, time.perf_counter() - started)
