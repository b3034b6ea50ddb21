"""Checkpoints that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from geofix.errors import GeofixError, InvalidInput


class CheckpointNotWritten(GeofixError):
    """The disk is full or gone; the checkpoint before it is as it was."""


def save(state: dict[str, Any], path: Path) -> None:
    """Write a state beside `path`, then put it in the place of the old one.

    Raises:
        CheckpointNotWritten: it could not be written; the old one is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where its writer fails
        partial.unlink(missing_ok=True)
        kept = f"the one before it is kept in {path}" if path.exists() else "there was none before it"
        raise CheckpointNotWritten(
            f"the checkpoint {path} could not be written ({error}); {kept}. Make room and run the same command again"
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours, tensors and numbers alone.

    Raises:
        InvalidInput: it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise many kinds for a damaged file
        raise InvalidInput(f"{path} is no checkpoint, or it is damaged: remove it to start anew ({error})") from error
    return state
