"""The training loop: mixed precision, accumulation, several processes, averaged weights, checkpoints, a graceful stop."""

from __future__ import annotations

import csv
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from geofix_training.engine import checkpoint
from geofix_training.engine.processes import Processes
from geofix_training.engine.schedule import Draw, Plan, rate
from geofix_training.experiment import TrainConfig
from geofix_training.weights import load_into

Progress = Callable[[int, int], None]
Batch = tuple[Tensor, ...]
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Task(Protocol):
    """What is trained: a module whose forward is the loss, and where its batches come from."""

    module: nn.Module

    def load(self, draw: Draw) -> Batch:
        """The arguments of the module's forward for a pass."""

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """The optimiser's groups of parameters."""

    def validate(self, module: nn.Module, device: torch.device) -> float:
        """The loss on the rows that are set aside for it; NaN without any."""


class Stopped(Exception):
    """SIGTERM came; the checkpoint is written, and the same command goes on from it."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}; the same command goes on from there")


class _Loads(Dataset[Batch]):
    def __init__(self, task: Task) -> None:
        self._task = task

    def __getitem__(self, draw: Draw) -> Batch:
        return self._task.load(draw)


class Trainer:
    """One stage's run in `folder`: `last.pt`, `best.pt`, `log.csv`. A second run goes on from `last.pt`.

    Raises:
        CheckpointNotWritten: the disk is full; the old checkpoint survives.
        Stopped: SIGTERM came.
    """

    def __init__(
        self, task: Task, plan: Plan, folder: Path, processes: Processes, progress: Progress = lambda _done, _all: None
    ) -> None:
        self.task, self.plan, self.folder, self.processes, self._progress = task, plan, folder, processes, progress
        self.config = plan.config
        folder.mkdir(parents=True, exist_ok=True)
        task.module.to(processes.device)
        self._optimiser = torch.optim.AdamW(task.groups(self.config))
        for group in self._optimiser.param_groups:
            group["peak"] = group["lr"]
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=self.config.precision == "float16")
        self._average: AveragedModel | None = None
        if self.config.ema:
            average = get_ema_multi_avg_fn(self.config.ema)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(task.module, multi_avg_fn=average, use_buffers=True)
        self._step, self._best, self._sum, self._count = 0, math.inf, 0.0, 0
        self._terminated = False

    def run(self) -> nn.Module:
        """Train to the end; the module with the best weights, in eval mode."""
        last = self.folder / "last.pt"
        if last.exists():
            self._restore(last)
        self._cut_log()
        if self._step < self.plan.steps:
            with self._listening():
                self._train()
        self.processes.wait()
        best = self.folder / "best.pt"
        load_into(self.task.module, checkpoint.load(best)["module"], best)
        return self.task.module.eval()

    def _train(self) -> None:
        module: nn.Module = self.task.module
        if self.processes.world > 1:
            # Not every parameter has a part in every loss (kappas, where labels are softened).
            module = DistributedDataParallel(module, find_unused_parameters=True)
        passes = self._passes()
        self.task.module.train()
        while self._step < self.plan.steps:
            share = rate(self._step, self.plan.steps, self.config.warm_up)
            for group in self._optimiser.param_groups:
                group["lr"] = group["peak"] * share
            loss = self._one_step(module, passes)
            self._step += 1
            self._sum, self._count = self._sum + loss, self._count + 1
            end = self._step == self.plan.steps
            stop = self.processes.any(self._terminated)
            keep = self._step % self.config.checkpoint_every == 0 or end or stop
            if self._step % self.config.log_every == 0 or keep:
                self._log(share)
            if keep:
                self._checkpoint(validate=not stop or end or not (self.folder / "best.pt").exists())
            if stop and not end:
                raise Stopped(self._step, self.plan.steps)

    def _one_step(self, module: nn.Module, passes: Iterator[Batch]) -> float:
        total, device = 0.0, self.processes.device
        # Dropout and noise are drawn from the step's number, so that a resumed run draws what the other would have.
        torch.manual_seed(hash((self.plan.seed, self._step, self.processes.rank)))
        dtype = PRECISIONS.get(self.config.precision, torch.bfloat16)
        for number in range(self.config.accumulate):
            batch = [part.to(device, non_blocking=True) for part in next(passes)]
            if isinstance(module, DistributedDataParallel):  # gradients travel once a step
                module.require_backward_grad_sync = number == self.config.accumulate - 1
            with torch.autocast(device.type, dtype, enabled=self.config.precision != "float32"):
                loss = module(*batch) / self.config.accumulate
            self._scaler.scale(loss).backward()
            total += float(loss.detach())
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self.task.module.parameters(), self.config.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self.task.module)
        return total

    def _passes(self) -> Iterator[Batch]:
        loader = DataLoader(
            _Loads(self.task),
            batch_size=None,
            sampler=self.plan.passes(self._step),
            num_workers=self.config.workers,
            pin_memory=self.processes.device.type == "cuda",
        )
        return iter(loader)

    def _checkpoint(self, *, validate: bool) -> None:
        if self.processes.main:
            if validate:
                self._keep_best()
            state = {
                "step": self._step,
                "module": self.task.module.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "scaler": self._scaler.state_dict(),
                "average": self._average.state_dict() if self._average is not None else {},
                "best": self._best,
            }
            checkpoint.save(state, self.folder / "last.pt")
        self.processes.wait()

    def _keep_best(self) -> None:
        chosen: nn.Module = self.task.module if self._average is None else self._average.module
        loss = self.task.validate(chosen.eval(), self.processes.device)
        self.task.module.train()
        if math.isnan(loss) or loss < self._best:  # NaN: nothing is set aside, and the newest is the best
            self._best = loss
            weights = {name: value.detach().cpu() for name, value in chosen.state_dict().items()}
            checkpoint.save({"module": weights, "step": self._step, "loss": loss}, self.folder / "best.pt")

    def _restore(self, path: Path) -> None:
        state = checkpoint.load(path)
        load_into(self.task.module, state["module"], path)
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._step, self._best = state["step"], state["best"]

    def _log(self, share: float) -> None:
        loss = self.processes.mean(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if self.processes.main:
            with (self.folder / "log.csv").open("a", newline="") as file:
                csv.writer(file).writerow(
                    [self._step, self._step // self.plan.steps_per_epoch, f"{loss:.6f}", f"{share:.6f}"]
                )
            self._progress(self._step, self.plan.steps)

    def _cut_log(self) -> None:
        """Lines of steps after the checkpoint go: those steps are done again."""
        path = self.folder / "log.csv"
        if not self.processes.main:
            return
        rows: list[list[str]] = []
        if path.exists():
            with path.open(newline="") as file:
                rows = list(csv.reader(file))[1:]
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "epoch", "loss", "rate"])
            writer.writerows(row for row in rows if int(row[0]) <= self._step)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(_number: int, _frame: FrameType | None) -> None:
            self._terminated = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
