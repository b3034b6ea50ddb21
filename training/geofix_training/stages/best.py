"""The best weights of a stage that has been run."""

from __future__ import annotations

from torch import nn

from geofix.errors import InvalidInput
from geofix_training.engine import checkpoint
from geofix_training.stages.work import Work
from geofix_training.weights import load_into


def fill_best(network: nn.Module, work: Work, stage: str) -> None:
    """Load them into the network.

    Raises:
        InvalidInput: the stage has not been run, or its weights are of another network.
    """
    path = work.stage(stage) / "best.pt"
    if not path.exists():
        raise InvalidInput(f"{work.folder} holds no trained {stage}: run geofix-train {stage} first")
    load_into(network, checkpoint.load(path)["module"], path)
