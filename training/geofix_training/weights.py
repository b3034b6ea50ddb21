"""State dicts of others, read as tensors alone, and the modules that they fill.

A key or a shape that differs is named, so that a file of another network is told from a damaged one.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geofix.errors import InvalidInput

State = Mapping[str, Tensor]


def fill(module: nn.Module, path: Path) -> None:
    """Load the state dict in a file into a module; raises InvalidInput where it is of another network."""
    load_into(module, read_state(path), path)


def load_into(module: nn.Module, state: State, path: Path) -> None:
    """Load a state that was read from `path` into a module; raises as `fill`."""
    wanted = module.state_dict()
    check_keys(path, state, set(wanted))
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise wrong_shape(path, name, tuple(state[name].shape), tuple(tensor.shape))
    module.load_state_dict(dict(state))


def read_state(path: Path) -> State:
    """The tensors in a file, .safetensors or as torch saves them; raises InvalidInput where it holds anything else."""
    state = _read(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInput(f"{path} is no state dict: parameter names with tensors")
    return state


def read_scalar(path: Path) -> float:
    """The one number in a file that torch saved; raises InvalidInput where it holds anything else."""
    value = _read(path)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.isfinite().all():
        raise InvalidInput(f"{path} holds no single finite number")
    return float(value)


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {path}") from error
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InvalidInput(
            f"{path} cannot be read as tensors alone: it is damaged, or holds more than a state dict"
        ) from error


def check_keys(path: Path, state: State, wanted: set[str]) -> None:
    """Raise InvalidInput unless the state has exactly the `wanted` keys."""
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or unknown:
        parts = [
            f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has the unknown", unknown)) if names
        ]
        raise InvalidInput(f"{path} is of another network: it {' and '.join(parts)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def wrong_shape(path: Path, name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> InvalidInput:
    """The error for a tensor of another shape."""
    return InvalidInput(f"{path}: {name} has the shape {found}, not {wanted}")
