"""Micro-batching in front of a device: a bounded queue, threads that prepare beside inference, one thread a model session.

An item waits as it came. It is prepared (an image: decoded) only when the device will soon want it, so that a request that is
refused, cancelled or late costs no work. The device's thread takes what is ready the moment it is free, up to a full batch: an
idle device never waits for more, a busy one finds a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

from geofix.batching_records import BatchObserver, BatchRecord, Counters, Done, Entry
from geofix.errors import DeadlineExceeded, Overloaded, Reason, Unavailable

log = logging.getLogger("geofix.batching")

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Output = TypeVar("Output")

FAILURES_UNTIL_UNHEALTHY = 3
"""Passes of the device that fail one after another before `check` says so."""
STALL_S = 30.0
"""A pass that takes longer is taken for a device that hangs."""
_DEADLINE_SHARE = 0.8
"""Part of the time left that waiting may use up; the rest is for the pass itself and for the answer's way back."""
_SMOOTHING = 0.1
"""Weight of the newest pass in the running mean of the time an item takes."""


class Batcher(Generic[Item, Prepared, Output]):
    """Runs items through preparation and a device.

    Args:
        name: for messages and thread names.
        runners: one thread each, which alone calls it; batch -> one output an item.
        prepare: item -> what the runners take; called in a preparation thread. None: items are what the runners take.
        prepare_threads: how many of those; none without `prepare`.
        at_once: items that take no time to prepare: where nothing waits, whoever submits them does it, and no thread has to wake
            for it. Behind others they wait their turn.
        max_batch: most items of one pass.
        max_queue: most items that wait.
        key: only prepared items of one key share a pass (such as the shape of an array).
        observer: told of batches, drops and refusals.
    """

    def __init__(
        self,
        name: str,
        runners: Sequence[Callable[[list[Prepared]], Sequence[Output]]],
        prepare: Callable[[Item], Prepared] | None = None,
        *,
        prepare_threads: int = 1,
        at_once: Callable[[Item], bool] = lambda _: False,
        max_batch: int = 1,
        max_queue: int = 128,
        key: Callable[[Prepared], Hashable] = lambda _: None,
        observer: BatchObserver | None = None,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self.observer = observer or BatchObserver()
        self._prepare, self._key, self._at_once = prepare, key, at_once
        self._max_batch, self._max_queue = max_batch, max_queue
        self._prepare_threads = prepare_threads if prepare else 0
        self._most_ahead = max_batch * len(runners) + self._prepare_threads
        self._ways = len(runners)
        self._lock = threading.Lock()
        self._raw_wanted = threading.Condition(self._lock)
        self._ready_wanted = threading.Condition(self._lock)
        self._raw: deque[Entry[Item, Prepared, Output]] = deque()
        self._ready: deque[Entry[Item, Prepared, Output]] = deque()
        self._ahead = 0  # being prepared, or prepared and not taken yet
        self._running: dict[int, float] = {}  # runner -> when its pass began
        self._running_items = 0
        self._item_s: float | None = None
        self._failures = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._prepare_forever, args=(prepare,), name=f"{name}-prepare-{i}", daemon=True)
            for i in range(self._prepare_threads)
        ] + [
            threading.Thread(target=self._run_forever, args=(i, run), name=f"{name}-{i}", daemon=True)
            for i, run in enumerate(runners)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Items that wait: neither running nor answered."""
        return len(self._raw) + self._ahead

    async def submit(self, items: Sequence[Item], deadline: float) -> list[Done[Output]]:
        """The outputs of `items`, in order, with what became of each on its way.

        Args:
            items: at least one; they may end in different passes.
            deadline: on the clock of `time.monotonic`; an item that is not begun by then is dropped.

        Raises:
            Overloaded: the queue has no room for all of them, or by what passes took lately it would not be done in time;
                `retry_after_s` says when to try again.
            DeadlineExceeded: an item was dropped.
            Unavailable: the device failed on an item, or the batcher was closed.
            Exception: whatever `prepare` raises.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        entries = [Entry[Item, Prepared, Output](item, deadline, loop.create_future(), loop, now) for item in items]
        raw, ready = self._split(entries)
        with self._lock:
            if self._closed:
                raise Unavailable(f"{self.name} is shutting down", Reason.SHUTTING_DOWN)
            refusal = self._refusal(len(entries), deadline - now)
            if refusal is None and raw:
                self._raw.extend(raw)
                self._raw_wanted.notify(len(raw))
            if refusal is None and ready:
                self._ready.extend(ready)
                self._ahead += len(ready)
                self._ready_wanted.notify()
        if refusal is not None:
            self.counters.refused += len(entries)
            self.observer.refused(len(entries))
            raise refusal
        try:
            return list(await asyncio.gather(*(entry.future for entry in entries)))
        finally:
            for entry in entries:  # whoever gave up, or failed as a whole, wants none of the rest
                entry.future.cancel()

    async def check(self, probe: Item, timeout_s: float = 5.0) -> None:
        """Whether the device works; after repeated failures that is found out with `probe`, whose success ends the alarm.

        Raises:
            Unavailable: a pass hangs, or the last ones failed and so does the probe.
        """
        now = time.monotonic()
        slowest = max((now - began for began in tuple(self._running.values())), default=0.0)
        if slowest > STALL_S:
            raise Unavailable(f"{self.name}: a pass has taken {slowest:.0f} s and has not come back")
        if self._failures < FAILURES_UNTIL_UNHEALTHY:
            return
        try:
            await self.submit([probe], now + timeout_s)
        except Overloaded as error:
            raise Unavailable(f"{self.name} failed {self._failures} times in a row") from error

    def close(self) -> None:
        """Let running passes finish, refuse what waits, end the threads."""
        with self._lock:
            self._closed = True
            waiting = [*self._raw, *self._ready]
            self._raw.clear()
            self._ready.clear()
            self._raw_wanted.notify_all()
            self._ready_wanted.notify_all()
        for entry in waiting:
            _fail(entry, Unavailable(f"{self.name} is shutting down", Reason.SHUTTING_DOWN))
        for thread in self._threads:
            thread.join()

    def _split(
        self, entries: list[Entry[Item, Prepared, Output]]
    ) -> tuple[list[Entry[Item, Prepared, Output]], list[Entry[Item, Prepared, Output]]]:
        """The entries that a thread is to prepare, and those that are ready for the device; these are prepared now."""
        nothing_waits = not self._raw and self._ahead < self._most_ahead
        raw: list[Entry[Item, Prepared, Output]] = []
        ready: list[Entry[Item, Prepared, Output]] = []
        for entry in entries:
            if self._prepare is not None and not (nothing_waits and self._at_once(entry.item)):
                raw.append(entry)
                continue
            entry.prepared = cast(Prepared, entry.item)
            if self._prepare is not None:
                _prepare(entry, self._prepare)
            entry.key = self._key(entry.prepared)
            ready.append(entry)
        return raw, ready

    def _refusal(self, count: int, left_s: float) -> Overloaded | None:
        waiting = len(self._raw) + self._ahead
        expected_s = (waiting + self._running_items) * (self._item_s or 0.0)
        if waiting + count > self._max_queue:
            what = f"{waiting} requests wait already, the limit is {self._max_queue}"
        elif waiting and expected_s > _DEADLINE_SHARE * left_s:
            what = f"{waiting} requests wait already, about {expected_s:.1f} s, and the deadline leaves {left_s:.1f} s"
        else:
            return None
        return Overloaded(
            f"{self.name}: {what}; retry after a pause",
            Reason.QUEUE_FULL,
            {"limit": str(self._max_queue)},
            retry_after_s=min(5.0, max(0.05, expected_s / 2)),
        )

    def _prepare_forever(self, prepare: Callable[[Item], Prepared]) -> None:
        while True:
            with self._lock:
                while not self._closed and not (self._raw and self._ahead < self._most_ahead):
                    self._raw_wanted.wait()
                if self._closed:
                    return
                entry = self._raw.popleft()
                if not self._wanted(entry):
                    continue
                self._ahead += 1
            try:
                _prepare(entry, prepare)
                entry.key = self._key(entry.prepared)
            except Exception as error:
                _fail(entry, error)
                with self._lock:
                    self._ahead -= 1
                    self._raw_wanted.notify()
                continue
            with self._lock:
                if not self._closed:
                    self._ready.append(entry)
                    self._ready_wanted.notify()
                    continue
            _fail(entry, Unavailable(f"{self.name} is shutting down", Reason.SHUTTING_DOWN))

    def _run_forever(self, runner: int, run: Callable[[list[Prepared]], Sequence[Output]]) -> None:
        while True:
            with self._lock:
                while not self._closed and not self._ready:
                    self._ready_wanted.wait()
                if self._closed:
                    return
                batch = self._take_batch()
                if not batch:
                    continue
                self._running[runner] = time.monotonic()
                self._running_items += len(batch)
            self._pass(batch, run)
            with self._lock:
                del self._running[runner]
                self._running_items -= len(batch)

    def _take_batch(self) -> list[Entry[Item, Prepared, Output]]:
        """The oldest ready entry and all of its key up to a full batch; the lock is held."""
        batch: list[Entry[Item, Prepared, Output]] = []
        rest: list[Entry[Item, Prepared, Output]] = []
        while self._ready and len(batch) < self._max_batch:
            entry = self._ready.popleft()
            if not self._wanted(entry):
                self._ahead -= 1
            elif batch and entry.key != batch[0].key:
                rest.append(entry)
            else:
                batch.append(entry)
                self._ahead -= 1
        self._ready.extendleft(reversed(rest))
        if self._ready:
            self._ready_wanted.notify()
        self._raw_wanted.notify_all()
        return batch

    def _wanted(self, entry: Entry[Item, Prepared, Output]) -> bool:
        """Whether work on an entry can still be of use; if not it is answered and counted. The lock is held."""
        if entry.future.cancelled():
            self.counters.cancelled += 1
            self.observer.dropped("cancelled")
            return False
        if time.monotonic() < entry.deadline:
            return True
        self.counters.expired += 1
        self.observer.dropped("expired")
        _fail(entry, DeadlineExceeded(f"{self.name}: the deadline passed while the request waited"))
        return False

    def _pass(
        self, batch: list[Entry[Item, Prepared, Output]], run: Callable[[list[Prepared]], Sequence[Output]]
    ) -> None:
        began = time.monotonic()
        try:
            outputs = run([cast(Prepared, entry.prepared) for entry in batch])
        except Exception:
            log.exception("%s: a pass over %d items failed", self.name, len(batch))
            self._record(batch, began, failed=True)
            if len(batch) > 1:  # one item may be to blame: each is tried alone, so that the others get their answers
                for entry in batch:
                    self._pass([entry], run)
            else:
                _fail(batch[0], Unavailable(f"{self.name} failed; the service's log says more"))
            return
        run_s = self._record(batch, began, failed=False)
        done = [
            Done(
                output,
                began - entry.submitted - entry.prepare_s,
                entry.prepare_s,
                run_s,
                len(batch),
                entry.submitted,
                entry.began,
                began,
            )
            for entry, output in zip(batch, outputs, strict=True)
        ]
        _tell(batch[0].loop, _resolve, batch, done)

    def _record(self, batch: list[Entry[Item, Prepared, Output]], began: float, *, failed: bool) -> float:
        run_s = time.monotonic() - began
        self._failures = self._failures + 1 if failed else 0
        self.counters.batches += 1
        self.counters.items += len(batch)
        self.counters.failures += failed
        if not failed:
            # What limits is the slower of the two stages, each shared by its threads.
            prepare_s = sum(entry.prepare_s for entry in batch) / max(1, self._prepare_threads)
            item_s = max(run_s / self._ways, prepare_s) / len(batch)
            before = self._item_s
            self._item_s = item_s if before is None else before + _SMOOTHING * (item_s - before)
        waits = tuple(began - entry.submitted - entry.prepare_s for entry in batch)
        self.observer.batch(BatchRecord(waits, tuple(entry.prepare_s for entry in batch), run_s, failed))
        return run_s


def _prepare(entry: Entry[Item, Prepared, Output], prepare: Callable[[Item], Prepared]) -> None:
    entry.began = time.monotonic()
    entry.prepared = prepare(entry.item)
    entry.prepare_s = time.monotonic() - entry.began


def _resolve(batch: list[Entry[Any, Any, Any]], done: list[Done[Any]]) -> None:
    for entry, one in zip(batch, done, strict=True):
        if not entry.future.done():
            entry.future.set_result(one)


def _fail(entry: Entry[Any, Any, Any], error: Exception) -> None:
    def tell() -> None:
        if not entry.future.done():
            entry.future.set_exception(error)

    _tell(entry.loop, tell)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(function, *args)
