"""Asking about many files: a few at once, answers in the order of the files, an error for one never in the way of the others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from geofix.errors import GeofixError, InvalidInput, Reason

IN_FLIGHT = 4
"""Files asked about at once."""
MAX_FILE_BYTES = 31 * 1024 * 1024
"""What a message of 32 MiB can carry; the server's own limit (20 MiB by default) is the server's to state."""

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
    waiting: deque[Future[Answered[T]]] = deque()
    pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="geofix-files")
    try:
        for path in paths:
            # Some more than are in flight, so that one slow file does not leave the other threads without work.
            if len(waiting) >= 4 * IN_FLIGHT:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_answer, path, ask))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def read_image(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InvalidInput: it cannot be read, or is larger than a message may be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, ValueError) as error:  # ValueError: a name with a null character
        raise InvalidInput("there is no such file", Reason.IMAGE_MISSING) from error
    except IsADirectoryError as error:
        raise InvalidInput("it is a directory; name the images in it", Reason.IMAGE_MISSING) from error
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}", Reason.IMAGE_MISSING) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"the file is over {MAX_FILE_BYTES:,} bytes, more than a message can carry: send a smaller or more compressed one",
            Reason.IMAGE_TOO_MANY_BYTES,
            {"limit_bytes": str(MAX_FILE_BYTES)},
        )
    return data


def _answer(path: Path, ask: Callable[[bytes], T]) -> Answered[T]:
    started = time.perf_counter()
    try:
        return Answered(path, ask(read_image(path)), None, time.perf_counter() - started)
    except GeofixError as error:
        return Answered(path, None, error, time.perf_counter() - started)
