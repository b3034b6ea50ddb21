"""Where and how the networks run: execution providers, threads, passes at a time, batch sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from geofix.cpus import available_cpus

CPU = "CPUExecutionProvider"
OPENVINO = {"OpenVINO": "f32", "OpenVINO_BF16": "bf16"}
"""Providers that are OpenVINO's own runtime, on the CPU, and the precision that each computes in; each stands alone."""
DEVICE_SIZES = (1, 2, 4, 8, 16, 32)
"""Batch sizes on a GPU: a batch is padded to the next, for a device is fast on shapes that it has seen."""


def asked_providers(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What GEOFIX_PROVIDERS names, for commands that read no service's settings."""
    return tuple((environment.get("GEOFIX_PROVIDERS") or CPU).split(","))


@dataclass(frozen=True)
class Placement:
    """What the settings ask for, with what follows from it.

    Attributes:
        providers: ONNX Runtime execution providers, in order of preference, or one of `OPENVINO`; those named must be in use.
        threads: of one pass on the CPU; 0: one where passes share the cores, all cores for a pass that is alone.
        batch_sizes: of a pass, ascending; empty: 1 on the CPU, `DEVICE_SIZES` elsewhere.
    """

    providers: tuple[str, ...] = (CPU,)
    threads: int = 0
    batch_sizes: tuple[int, ...] = ()

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU is what is preferred."""
        return self.providers[0] in (CPU, *OPENVINO)

    @property
    def small_providers(self) -> tuple[str, ...]:
        """Those of the networks behind the backbone: OpenVINO gains nothing on them, and bfloat16 would cost them precision."""
        return (CPU,) if self.providers[0] in OPENVINO else self.providers

    @property
    def lanes(self) -> int:
        """Passes at the same time: as many as fill the cores, for one pass on one thread wastes least; one on a device."""
        return max(1, available_cpus() // max(1, self.threads)) if self.on_cpu else 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes in force. A CPU gains nothing from a batch; a larger one only makes its first image wait."""
        return self.batch_sizes or ((1,) if self.on_cpu else DEVICE_SIZES)
