"""Asking about many images: a few at once, answers in their order, an error for one never in the way of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from geofix.cli.inputs import Input
from geofix.client.ordered import map_ordered
from geofix.errors import GeofixError

IN_FLIGHT = 4
"""Images asked about at once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Answered(Generic[T]):
    """What became of one image: a value or an error, and the seconds that it took as the caller saw them."""

    source: Input
    value: T | None
    error: GeofixError | None
    elapsed_s: float


def answer_inputs(inputs: Iterable[Input], ask: Callable[[bytes], T]) -> Iterator[Answered[T]]:
    """Ask about the bytes of every image, `IN_FLIGHT` at a time; yields in the order of `inputs`."""
    return map_ordered(inputs, lambda source: _answer(source, ask), IN_FLIGHT)


def _answer(source: Input, ask: Callable[[bytes], T]) -> Answered[T]:
    started = time.perf_counter()
    try:
        return Answered(source, ask(source.read()), None, time.perf_counter() - started)
    except GeofixError as error:
        return Answered(source, None, error, time.perf_counter() - started)
