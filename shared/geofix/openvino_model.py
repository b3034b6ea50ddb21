"""OpenVINO's own runtime, for networks on Intel CPUs: chosen by its name among the providers, an optional extra.

OpenVINO inside ONNX Runtime would be a build of ONNX Runtime of its own; this is the package `openvino`, beside either build.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofix.cpus import available_cpus
from geofix.errors import MismatchError, Reason
from geofix.placement import OPENVINO

SHAPES = 4
"""Batch shapes that a model is compiled for, the first that are seen: a pass is a tenth to a third faster than with any shape.
Each costs half a second at its first pass and the memory of the weights; those that come after share one for any shape."""


class OpenVinoModel:
    """A model, compiled for the CPU. Calls may overlap: each has a request of its own.

    Args:
        model: the ONNX file; one input, its first axis the batch.
        provider: of `OPENVINO`; says in which precision it computes.
        threads: of one pass; 0 is every core that the process may use.

    Raises:
        MismatchError: reason PROVIDER_MISMATCH; the extra is not installed, or the CPU lacks instructions for the precision, for
            which OpenVINO would compute in another without a word. BUNDLE_INVALID for a damaged model.
    """

    def __init__(self, model: Path, provider: str, threads: int) -> None:
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise MismatchError(
                f"GEOFIX_PROVIDERS asks for {provider}: pip install 'geofix[openvino]'",
                Reason.PROVIDER_MISMATCH,
                {"asked": provider, "found": ""},
            ) from error
        core = openvino.Core()
        found = openvino_providers(core)
        if provider not in found:
            raise MismatchError(
                f"asked for {provider} but this CPU has no instructions for it: take {', '.join(found)}, or leave "
                "GEOFIX_PROVIDERS unset",
                Reason.PROVIDER_MISMATCH,
                {"asked": provider, "found": ",".join(found)},
            )
        cpus = available_cpus()
        streams = max(1, cpus // threads) if threads else 1
        options = {
            "INFERENCE_PRECISION_HINT": OPENVINO[provider],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads or cpus,
            "ENABLE_CPU_PINNING": False,  # decoding and the other services share these cores
        }
        try:
            self._network = core.read_model(str(model))
            _fold_constants(self._network)
        except RuntimeError as error:
            raise MismatchError(f"{model} cannot be loaded: {error}", Reason.BUNDLE_INVALID) from error
        self._compile = partial(core.compile_model, device_name="CPU", config=options)
        self.providers: tuple[str, ...] = (provider,)
        self.inputs = tuple(node.get_any_name() for node in self._network.inputs)
        self.outputs = tuple(node.get_any_name() for node in self._network.outputs)
        self._fixed: dict[tuple[int, ...], _Compiled] = {}
        self._any: _Compiled | None = None
        self._lock = threading.Lock()

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run a batch, shape (n, ...); the outputs in their order, each of shape (n, ...)."""
        return self._compiled(batch.shape).run(batch)

    def _compiled(self, shape: tuple[int, ...]) -> _Compiled:
        found = self._fixed.get(shape)
        if found is not None:
            return found
        with self._lock:
            if shape not in self._fixed and len(self._fixed) < SHAPES:
                network = self._network.clone()
                network.reshape(list(shape))
                self._fixed[shape] = _Compiled(self._compile(network))
            if shape in self._fixed:
                return self._fixed[shape]
            if self._any is None:
                self._any = _Compiled(self._compile(self._network))
            return self._any


def _fold_constants(network: Any) -> None:
    """Make floating-point weights of those that are kept in eight bits.

    OpenVINO (2026.4) would keep them so, and then several streams compute wrong convolutions, and linear layers round what they
    are given to eight bits too.
    """
    from openvino import passes

    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(network)


class _Compiled:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._idle: list[Any] = []

    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            found = request.infer([batch], share_inputs=True)
            return [found[index] for index in range(len(self._model.outputs))]
        finally:
            self._idle.append(request)


def import_openvino() -> Any:
    """The package `openvino`, kept from telling Google Analytics of its import and from leaving an id in the home directory.

    Raises:
        ImportError: it is not installed.
    """
    # Nothing turns that off but this: OpenVINO does without the package where it cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_providers(core: Any = None) -> tuple[str, ...]:
    """The names of `OPENVINO` that this machine can serve; none where the extra is not installed."""
    if core is None:
        try:
            openvino = import_openvino()
        except ImportError:
            return ()
        core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, precision in OPENVINO.items() if precision == "f32" or precision.upper() in able)
