"""What a batcher keeps of its items and tells of its work; metrics and traces read it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Output = TypeVar("Output")


@dataclass(frozen=True)
class Done(Generic[Output]):
    """An item's output, and what became of the item.

    Attributes:
        value: the output.
        wait_s: spent waiting, seconds.
        prepare_s: spent in preparation, seconds.
        run_s: of the pass that it was in, seconds; shared by the pass's items.
        batch_size: items of that pass.
        submitted: when it came, by `time.monotonic`, as the two below.
        prepare_began: when its preparation began; 0 without one.
        run_began: when that pass began.
    """

    value: Output
    wait_s: float
    prepare_s: float
    run_s: float
    batch_size: int
    submitted: float = 0.0
    prepare_began: float = 0.0
    run_began: float = 0.0


@dataclass(frozen=True)
class BatchRecord:
    """One pass of the device: seconds that each item waited and was prepared for, seconds of the pass, whether it failed."""

    wait_s: tuple[float, ...]
    prepare_s: tuple[float, ...]
    run_s: float
    failed: bool

    @property
    def size(self) -> int:
        """Items in it."""
        return len(self.wait_s)


@dataclass
class Counters:
    """Running totals; only ever larger. All but `batches` and `failures` (passes) count items."""

    batches: int = 0
    items: int = 0
    failures: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0


class BatchObserver:
    """Told of a batcher's work, from any of its threads; must return at once and not raise. This one does nothing."""

    def batch(self, record: BatchRecord) -> None:
        """A pass is over."""

    def dropped(self, cause: Literal["expired", "cancelled"]) -> None:
        """An item was let go before its work was done."""

    def refused(self, items: int) -> None:
        """A call of so many items found no room."""


@dataclass(eq=False, slots=True)
class Entry(Generic[Item, Prepared, Output]):
    """An item on its way; times are of `time.monotonic`."""

    item: Item
    deadline: float
    future: asyncio.Future[Done[Output]]
    loop: asyncio.AbstractEventLoop
    submitted: float
    prepared: Prepared | Any = None
    key: Hashable = None
    began: float = 0.0
    prepare_s: float = 0.0
