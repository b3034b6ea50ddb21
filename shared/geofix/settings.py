"""Every setting is an environment variable `GEOFIX_<NAME>`; one that is missing, wrong or unknown ends the process, code 2."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from geofix.errors import ConfigurationError
from geofix.images import ImageLimits
from geofix.placement import Placement
from geofix.tls import TlsFiles
from geofix.variables import PREFIX, explain_unknown, known_variables


class Settings(BaseSettings):
    """Base of all settings; read them with `from_environment`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that the environment states.

        Raises:
            ConfigurationError: naming each variable that is missing or wrong, and what it is for; and each `GEOFIX_*` variable
                that no service reads, with the name that it resembles.
        """
        unknown = explain_unknown(os.environ, known_variables(Settings))
        try:
            found = cls()
        except ValidationError as error:
            wrong = [_explain(cls, item["loc"], item) for item in error.errors()]
            raise ConfigurationError("\n".join(wrong + unknown)) from error
        if unknown:
            raise ConfigurationError("\n".join(unknown))
        return found


class ServiceSettings(Settings):
    """What every service needs."""

    listen: str = Field(pattern=r"^.+:\d{1,5}$", description="host:port to serve gRPC on, such as 0.0.0.0:50051")
    bundle: Path = Field(description="directory of the bundle to serve")
    max_image_bytes: int = Field(20 * 1024 * 1024, ge=1, description="most bytes of one image")
    max_image_pixels: int = Field(50_000_000, ge=1, description="most pixels of one image, checked before decoding")
    max_message_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="most bytes of one message, either way")
    max_batch: int = Field(32, ge=1, le=1024, description="most items of one batch; a larger one is refused whole")
    max_queue: int = Field(128, ge=1, description="most requests that wait; beyond, RESOURCE_EXHAUSTED")
    default_deadline_s: float = Field(10.0, gt=0, description="deadline of calls that bring none, seconds")
    max_deadline_s: float = Field(60.0, gt=0, description="longest deadline honoured, seconds")
    max_connection_age_s: float = Field(
        300.0,
        ge=0,
        description=(
            "age (±10 %) at which a client's connection is ended, without loss, so that it looks its name up again and "
            "new replicas get load; 0 is never"
        ),
    )
    drain_delay_s: float = Field(
        5.0,
        ge=0,
        description=(
            "after SIGTERM the service says that it is not ready and goes on answering for this long, so that clients "
            "move to other replicas; SIGINT or a second signal skips it, and so does `geofix up`"
        ),
    )
    drain_s: float = Field(10.0, ge=0, description="time for calls in flight after that, seconds")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe log level")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="of log lines: text, json, or auto: text on a terminal, else json"
    )
    metrics_listen: str = Field(
        "",
        pattern=r"^(.+:\d{1,5})?$",
        description="host:port to serve Prometheus metrics on, without TLS and open to who can reach it; empty: none",
    )
    health_listen: str = Field(
        "",
        pattern=r"^(.+:\d{1,5})?$",
        description=(
            "host:port to serve `grpc.health.v1` alone on, without TLS, for probes that speak none (Kubernetes' own); "
            "empty: none"
        ),
    )
    tls_cert_file: Path | None = Field(
        None,
        description=(
            "the service's certificate chain (PEM); with it the service speaks TLS only. Read again within a second of "
            "a change"
        ),
    )
    tls_key_file: Path | None = Field(None, description="the private key of that certificate (PEM, without a password)")
    tls_ca_file: Path | None = Field(
        None,
        description=(
            "authorities (PEM) of the platform's certificates: with it a service calls the others by TLS, with its own "
            "certificate, and callers need one of theirs"
        ),
    )
    tls_require_client_cert: bool = Field(
        True,
        description="whether callers need a certificate of those authorities; false where clients have tokens only",
    )
    otel: bool = Field(
        False,
        description="whether to send OpenTelemetry traces; where to and how much is said by the standard `OTEL_*` variables",
    )

    @property
    def tls(self) -> TlsFiles:
        """The files of its TLS.

        Raises:
            ConfigurationError: one of certificate and key is missing.
        """
        return TlsFiles(self.tls_cert_file, self.tls_key_file, self.tls_ca_file, self.tls_require_client_cert)

    @property
    def image_limits(self) -> ImageLimits:
        """Limits on one image."""
        return ImageLimits(self.max_image_bytes, self.max_image_pixels)

    def deadline(self, remaining_s: float | None) -> float:
        """When a call that has `remaining_s` left (None: it brought no deadline) ends, on the clock of `time.monotonic`."""
        return time.monotonic() + (
            self.default_deadline_s if remaining_s is None else min(remaining_s, self.max_deadline_s)
        )


class ModelSettings(ServiceSettings):
    """What the services that run networks need beside."""

    providers: str = Field(
        "CPUExecutionProvider",
        pattern=r"^\w+(,\w+)*$",
        description=(
            "ONNX Runtime execution providers in order of preference, by commas. The service is ready only when they "
            "are in use: a GPU that was asked for and is not there is an error, not a slow service. Or OpenVINO, or "
            "OpenVINO_BF16 (bfloat16), alone: docs/openvino.md"
        ),
    )
    threads: int = Field(
        0,
        ge=0,
        description=(
            "threads of one pass on the CPU; as many passes run at a time as fill the cores. 0 is one thread where "
            "passes share the cores, all cores for a pass that is alone"
        ),
    )
    batch_sizes: str = Field(
        "",
        pattern=r"^([1-9]\d{0,3}(,[1-9]\d{0,3})*)?$",
        description=(
            "sizes that batches are padded to, by commas; the largest is the largest batch. Empty is 1 on the CPU, "
            "which gains nothing from a batch, and 1,2,4,8,16,32 on a GPU"
        ),
    )

    @property
    def placement(self) -> Placement:
        """Where and how the networks run."""
        sizes = sorted({int(size) for size in self.batch_sizes.split(",") if size})
        return Placement(tuple(self.providers.split(",")), self.threads, tuple(sizes))


def _explain(cls: type[Settings], loc: tuple[int | str, ...], item: object) -> str:
    name = str(loc[0]) if loc else ""
    field = cls.model_fields.get(name)
    purpose = f" ({field.description})" if field is not None and field.description else ""
    variable = f"{PREFIX}{name.upper()}"
    problem = dict(item)["msg"] if isinstance(item, dict) else ""
    return (
        f"{variable} is not set{purpose}" if variable not in os.environ else f"{variable} is wrong{purpose}: {problem}"
    )
