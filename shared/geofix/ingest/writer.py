"""Writes rows in the background, many of a partition at a time, and waits for a database that is away."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from geofix.errors import DeadlineExceeded, Overloaded, Reason, Unavailable
from geofix.gallery.admin import GalleryAdmin
from geofix.gallery.layout import GalleryInfo
from geofix.gallery.rows import ImageRow

T = TypeVar("T")

ROWS_TOGETHER = 1_000
"""Rows of one call."""
MOST_HELD, HOLD_S = 8_000, 5.0
"""Rows that wait until there are enough of their partition, and for how long: what a death may cost in work, not in rows."""
_QUEUED = 64


def patiently(work: Callable[[], T], patience_s: float, say: Callable[[str], None]) -> T:
    """The result of something that may be repeated; while the database is away it is tried again, for `patience_s`.

    Raises:
        GeofixError: another error, or the patience is over.
    """
    end, pause, said = time.monotonic() + patience_s, 0.2, False
    while True:
        try:
            return work()
        except (Unavailable, DeadlineExceeded, Overloaded) as error:
            if error.reason is Reason.STORAGE_FULL or time.monotonic() + pause > end:
                raise
            if not said:
                say(f"waiting: {error.message}")
                said = True
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


class Writer:
    """Inserts the rows that it is given, in a thread of its own.

    Args:
        admin: of the gallery.
        info: the version, being filled.
        done: called with the rows that the database has acknowledged, from the writer's thread.
        patience_s: how long to wait for a database that is away.
        say: for people.
    """

    def __init__(
        self,
        admin: GalleryAdmin,
        info: GalleryInfo,
        done: Callable[[list[ImageRow]], None],
        patience_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._admin, self._info, self._done = admin, info, done
        self._patience_s, self._say = patience_s, say
        self._queue: queue.Queue[list[ImageRow] | None] = queue.Queue(_QUEUED)
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gallery-writer", daemon=True)
        self._thread.start()

    def put(self, rows: list[ImageRow]) -> None:
        """Hand rows over; waits where the database is far behind.

        Raises:
            GeofixError: writing has failed.
        """
        self._check()
        self._queue.put(rows)

    def finish(self) -> None:
        """Wait until every row is acknowledged.

        Raises:
            GeofixError: writing has failed.
        """
        self._queue.put(None)
        self._thread.join()
        self._check()

    def abandon(self) -> None:
        """Write nothing more."""
        self._abandoned.set()
        self._queue.put(None)
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        held: dict[int, list[ImageRow]] = defaultdict(list)
        since = time.monotonic()
        while True:
            try:
                rows = self._queue.get(timeout=HOLD_S)
            except queue.Empty:
                rows = []
            if self._abandoned.is_set():
                return
            if self._error is not None:  # go on taking rows, so that nobody waits for room in the queue
                if rows is None:
                    return
                continue
            for row in rows or ():
                held[row.cell_id % self._info.partitions].append(row)
            full = [key for key, some in held.items() if len(some) >= ROWS_TOGETHER]
            total = sum(len(some) for some in held.values())
            if rows is None or total >= MOST_HELD or time.monotonic() - since > HOLD_S:
                full, since = list(held), time.monotonic()
            try:
                self._write([row for key in full for row in held.pop(key)])
            except BaseException as error:  # handed to whoever puts or finishes
                self._error = error
            if rows is None:
                return

    def _write(self, rows: list[ImageRow]) -> None:
        for start in range(0, len(rows), ROWS_TOGETHER):
            batch = rows[start : start + ROWS_TOGETHER]
            patiently(partial(self._admin.insert, self._info.name, batch), self._patience_s, self._say)
            self._done(batch)
