"""The one place that decides how a model is run: providers, threads, and the refusal to fall back silently."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geofix.cpus import available_cpus
from geofix.errors import MismatchError, Reason
from geofix.openvino_model import OpenVinoModel
from geofix.placement import CPU, OPENVINO, Placement

# ONNX Runtime carries telemetry to Microsoft and leaves a device id in the home directory, unless told not to before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

Array = NDArray[np.float32]
_DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Where a provider's memory is, for those that do not compute in the host's."""


class _Engine(Protocol):
    """A model that is loaded."""

    providers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, batch: Array) -> list[Array]:
        """Run a batch, shape (n, ...); the outputs in their order."""


class OnnxSession:
    """A model, loaded on the providers that were asked for, in order of preference.

    ONNX Runtime falls back to the CPU with only a log line where a GPU library is missing; here that is an error, since
    a pod that was given a GPU and computes on its CPU is ten times too slow and says nothing.

    Args:
        model: the ONNX file; one input, its first axis the batch.
        providers: as in `Placement`.
        threads: of one pass on the CPU; 0 is every core that the process may use.
        sizes: batch sizes to pad to, ascending; empty is none.

    Raises:
        MismatchError: reason PROVIDER_MISMATCH, with what was asked for and what is there; BUNDLE_INVALID for a damaged model.
    """

    def __init__(
        self, model: Path, providers: Sequence[str] = (CPU,), threads: int = 0, sizes: Sequence[int] = ()
    ) -> None:
        engine: _Engine
        if len(providers) == 1 and providers[0] in OPENVINO:
            engine = OpenVinoModel(model, providers[0], threads)
        else:
            engine = _OnnxRuntime(model, list(providers), threads)
        self._engine = engine
        self.providers, self.inputs, self.outputs = engine.providers, engine.inputs, engine.outputs
        self._sizes = tuple(sizes)

    def run(self, batch: Array) -> dict[str, Array]:
        """Run a batch, shape (n, ...), through the model's single input; outputs by name, each of shape (n, ...)."""
        count = len(batch)
        values = self._engine.run(np.ascontiguousarray(_padded(batch, self._sizes), np.float32))
        return {name: value[:count] for name, value in zip(self.outputs, values, strict=True)}


class _OnnxRuntime:
    def __init__(self, model: Path, asked: list[str], threads: int) -> None:
        absent = [name for name in asked if name not in ort.get_available_providers()]
        if absent:
            raise _mismatch(asked, ort.get_available_providers())
        if any(name in _DEVICES for name in asked):
            # CUDA and cuDNN of the `gpu` extra lie in site-packages, where no loader looks.
            ort.preload_dlls(directory="")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cpus()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from decoding and from the other services: half of the throughput.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
        self._device = _DEVICES.get(asked[0])
        self._device_inputs: dict[tuple[int, ...], ort.OrtValue] = {}

    def run(self, batch: Array) -> list[Array]:
        if self._device is None:
            return list(self._session.run(list(self.outputs), {self.inputs[0]: batch}))
        return self._run_bound(batch, self._device)

    def _run_bound(self, batch: Array, device: str) -> list[Array]:
        """Run with the input in device memory that is allocated once a shape, and one copy back; for one thread at a time."""
        known = self._device_inputs.get(batch.shape)
        if known is None:
            known = self._device_inputs[batch.shape] = ort.OrtValue.ortvalue_from_numpy(batch, device, 0)
        else:
            known.update_inplace(batch)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self.inputs[0], known)
        for name in self.outputs:
            binding.bind_output(name, device)
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


class ElasticSession:
    """A large model on shared cores: a pass that is alone gets all of them, passes beside one another one core each.

    A pass on one thread wastes least, so under load every core runs a pass of its own; a single client would wait twice as long
    for that. Costs the model's memory twice. On a device, or where threads are set, it is one session.
    """

    def __init__(self, model: Path, placement: Placement) -> None:
        shared = placement.on_cpu and placement.threads == 0
        threads = 1 if shared else placement.threads
        self._narrow = OnnxSession(model, placement.providers, threads, placement.sizes)
        self._wide = self._narrow
        if shared and available_cpus() > 1:
            self._wide = OnnxSession(model, placement.providers, 0, placement.sizes)
        self.providers = self._narrow.providers
        self._lock = threading.Lock()
        self._inside = 0

    def run(self, batch: Array) -> dict[str, Array]:
        """As `OnnxSession.run`."""
        with self._lock:
            session = self._narrow if self._inside else self._wide
            self._inside += 1
        try:
            return session.run(batch)
        finally:
            with self._lock:
                self._inside -= 1

    def warm_up(self, batch: Array) -> None:
        """One pass over `batch` in each session, so that the first request does not pay for memory and kernels."""
        for session in (self._narrow, self._wide):
            session.run(batch)


def _padded(batch: Array, sizes: Sequence[int]) -> Array:
    """The batch with zeros behind it up to the next of `sizes`; as it is where it is larger than all."""
    size = next((size for size in sizes if size >= len(batch)), len(batch))
    if size == len(batch):
        return batch
    return np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])


def _mismatch(asked: Sequence[str], found: Sequence[str]) -> MismatchError:
    return MismatchError(
        f"asked for {', '.join(asked)} but ONNX Runtime offers {', '.join(found)}: install the extra that carries it "
        "(geofix[gpu] for CUDA) and its driver, or change GEOFIX_PROVIDERS",
        Reason.PROVIDER_MISMATCH,
        {"asked": ",".join(asked), "found": ",".join(found)},
    )
