"""The one place that decides how ONNX Runtime runs a model: providers, threads, and the refusal to fall back silently."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geofix.cpus import available_cpus
from geofix.errors import MismatchError, Reason

# ONNX Runtime carries telemetry to Microsoft and leaves a device id in the home directory, unless told not to before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

CPU = "CPUExecutionProvider"


class OnnxSession:
    """A model, loaded on the providers that were asked for, in order of preference.

    ONNX Runtime falls back to the CPU with only a log line where a GPU library is missing; here that is an error, since
    a pod that was given a GPU and computes on its CPU is ten times too slow and says nothing.

    Raises:
        MismatchError: reason PROVIDER_MISMATCH, with what was asked for and what is there; BUNDLE_INVALID for a damaged model.
    """

    def __init__(self, model: Path, providers: Sequence[str] = (CPU,), threads: int = 0) -> None:
        asked = list(providers)
        absent = [name for name in asked if name not in ort.get_available_providers()]
        if absent:
            raise _mismatch(asked, ort.get_available_providers())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cpus()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(model), options, providers=asked)
        except Exception as error:  # onnxruntime raises its own undocumented classes for every kind of bad model
            raise MismatchError(f"{model} cannot be loaded: {error}", Reason.BUNDLE_INVALID) from error
        in_use = self._session.get_providers()
        if in_use[: len(asked)] != asked:
            raise _mismatch(asked, in_use)
        self.providers: tuple[str, ...] = tuple(in_use)
        self.inputs: tuple[str, ...] = tuple(node.name for node in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(node.name for node in self._session.get_outputs())

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Run a batch, shape (n, ...), through the model's single input; outputs by name, each of shape (n, ...)."""
        values = self._session.run(list(self.outputs), {self.inputs[0]: np.ascontiguousarray(batch, np.float32)})
        return dict(zip(self.outputs, values, strict=True))


def _mismatch(asked: Sequence[str], found: Sequence[str]) -> MismatchError:
    return MismatchError(
        f"asked for {', '.join(asked)} but ONNX Runtime offers {', '.join(found)}: install the extra that carries it "
        "(geofix[gpu] for CUDA) and its driver, or change GEOFIX_PROVIDERS",
        Reason.PROVIDER_MISMATCH,
        {"asked": ",".join(asked), "found": ",".join(found)},
    )
