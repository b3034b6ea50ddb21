"""What a user names on the command line, as images: files, folders, patterns, `-` for standard input, and URLs."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geofix.cli.fetch import fetch, is_url
from geofix.client.sources import MAX_READ_BYTES, read_file
from geofix.errors import InvalidInput, Reason

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp")
"""Names of images in a folder; a file that is named itself may have any name."""
STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One image to locate.

    Attributes:
        name: as the user wrote it, or found in a folder.
        read: its bytes; raises InvalidInput where there are none to be had.
        path: the file, where it is one.
    """

    name: str
    read: Callable[[], bytes]
    path: Path | None = None


def file_input(path: Path) -> Input:
    """The image in a file."""
    return Input(str(path), partial(read_file, path), path)


def find_inputs(
    words: Iterable[str], *, recursive: bool = False, fetcher: Callable[[str], bytes] = fetch
) -> list[Input]:
    """The images that words name, in the order of the words; the images of a folder or a pattern in the order of their names.

    A word that names nothing becomes an input that cannot be read, so that it is told with the others.
    """
    return [found for word in words for found in _inputs(word, recursive, fetcher)]


def _inputs(word: str, recursive: bool, fetcher: Callable[[str], bytes]) -> Iterator[Input]:
    if word == STDIN:
        yield Input("(standard input)", _read_stdin)
    elif is_url(word):
        yield Input(word, partial(fetcher, word))
    elif os.path.isdir(word):  # the functions of os.path say False where those of Path raise
        yield from _folder(Path(word), recursive)
    elif not os.path.lexists(word) and glob.has_magic(word):
        found = sorted(name for name in glob.iglob(word, recursive=True) if os.path.isfile(name))
        yield from map(file_input, map(Path, found)) if found else [_nothing(word, "no file matches this pattern")]
    else:
        yield file_input(Path(word))


def _folder(folder: Path, recursive: bool) -> Iterator[Input]:
    try:
        found = sorted(_images(folder, recursive))
    except OSError as error:
        yield _nothing(str(folder), f"it cannot be read: {error.strerror}")
        return
    deeper = "" if recursive else "; --recursive looks into the folders in it"
    yield from (
        map(file_input, found)
        if found
        else [_nothing(str(folder), f"there is no JPEG, PNG or WebP image in this folder{deeper}")]
    )


def _images(folder: Path, recursive: bool) -> Iterator[Path]:
    def give_up(error: OSError) -> None:
        raise error

    for directory, folders, names in os.walk(folder, onerror=give_up):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory, name)


def _nothing(name: str, why: str) -> Input:
    def read() -> bytes:
        raise InvalidInput(why, Reason.IMAGE_MISSING)

    return Input(name, read)


def _read_stdin() -> bytes:
    data = sys.stdin.buffer.read(MAX_READ_BYTES + 1)
    if not data:
        raise InvalidInput("nothing came in", Reason.IMAGE_EMPTY)
    if len(data) > MAX_READ_BYTES:
        raise InvalidInput(f"it is over {MAX_READ_BYTES:,} bytes", Reason.IMAGE_TOO_MANY_BYTES)
    return data
