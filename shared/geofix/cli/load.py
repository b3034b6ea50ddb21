"""A closed loop of requests: so many always in flight, for so long."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from geofix.client import AsyncClient, LocateOptions, Timing
from geofix.errors import GeofixError

_STAGES = ("total", "cache", "classify", "embed", "search", "aggregate")


@dataclass
class Measured:
    """What a run saw.

    Attributes:
        seconds: how long it went.
        elapsed_s: of each answer, as the caller saw it.
        timings: of each answer, as the server states them.
        errors: how many by reason.
    """

    seconds: float = 0.0
    elapsed_s: list[float] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        """How many answers came."""
        return len(self.elapsed_s)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0

    @property
    def stages_ms(self) -> dict[str, float]:
        """Median milliseconds of the server's stages; those that never ran are left out."""
        found = {name: median(getattr(t, f"{name}_ms") for t in self.timings) for name in _STAGES if self.timings}
        return {name: ms for name, ms in found.items() if ms > 0}

    def quantiles_ms(self) -> dict[int, float] | None:
        """Milliseconds within which 50, 90 and 99 % of the answers came, or None without any."""
        if not self.elapsed_s:
            return None
        return {q: 1000 * float(np.percentile(self.elapsed_s, q)) for q in (50, 90, 99)}

    def record(self) -> dict[str, Any]:
        """The JSON object of it."""
        spent = self.quantiles_ms() or {}
        return {
            "images_per_second": round(self.rate, 3),
            **{f"p{q}_ms": round(ms, 3) for q, ms in spent.items()},
            "answers": self.answers,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 3),
            "server_ms": {name: round(ms, 3) for name, ms in self.stages_ms.items()},
        }


async def run(
    client: AsyncClient, images: Sequence[bytes], options: LocateOptions, concurrency: int, seconds: float
) -> Measured:
    """Ask for one image after the other, `concurrency` at a time, for `seconds`; what is in flight then is waited for."""
    measured, asked = Measured(), 0
    began = time.perf_counter()

    async def worker() -> None:
        nonlocal asked
        while time.perf_counter() - began < seconds:
            image = images[asked % len(images)]
            asked += 1
            started = time.perf_counter()
            try:
                location = await client.locate(image, options)
            except GeofixError as error:
                measured.errors[error.reason.value] += 1
                await asyncio.sleep(0.05)  # a server that refuses at once is not to be hammered
            else:
                measured.elapsed_s.append(time.perf_counter() - started)
                measured.timings.append(location.timing)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    measured.seconds = time.perf_counter() - began
    return measured
