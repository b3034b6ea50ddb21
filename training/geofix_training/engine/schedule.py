"""The learning rate over a run, and the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofix_training.experiment import TrainConfig


def rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak rate at a step from 0: a linear rise, then half a cosine to 0 (Loshchilov and Hutter 2017)."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@dataclass(frozen=True)
class Draw:
    """One pass of one process: its rows, and a seed that depends on nothing but the run's and the pass's place in it."""

    rows: NDArray[np.int64]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Which rows each pass of each process takes: a function of the seed alone, so that a resumed run takes the same.

    Attributes:
        rows: the training rows, (n,).
        config: of the stage.
        seed: of the experiment.
        rank: this process.
        world: how many there are.
    """

    rows: NDArray[np.int64]
    config: TrainConfig
    seed: int
    rank: int
    world: int

    @property
    def batch(self) -> int:
        """Rows a step."""
        return min(self.config.batch, len(self.rows))

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass over the rows; what is left over waits for another epoch's order."""
        return len(self.rows) // self.batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        steps = self.config.epochs * self.steps_per_epoch
        return min(steps, self.config.max_steps or steps)

    def passes(self, start: int) -> Iterator[Draw]:
        """This process's passes from a step on, `accumulate` a step."""
        for epoch in range(start // self.steps_per_epoch, self.config.epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            for step in range(epoch * self.steps_per_epoch, min((epoch + 1) * self.steps_per_epoch, self.steps)):
                if step < start:
                    continue
                at = (step - epoch * self.steps_per_epoch) * self.batch
                chosen = self.rows[order[at : at + self.batch]]
                for number in range(self.config.accumulate):
                    place = self.rank * self.config.accumulate + number
                    part = np.array_split(chosen, self.world * self.config.accumulate)[place]
                    yield Draw(part, (self.seed, step, place))
