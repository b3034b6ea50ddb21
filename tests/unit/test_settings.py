"""Settings come from the environment; one that is missing or wrong is named with what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from geofix.errors import ConfigurationError
from geofix.images import ImageLimits
from geofix.placement import Placement
from geofix.settings import ModelSettings, ServiceSettings

NEEDED = {"GEOFIX_LISTEN": "127.0.0.1:50051", "GEOFIX_BUNDLE": "bundles/orbit"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("GEOFIX_")]:
        monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> ModelSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return ModelSettings.from_environment()


def test_every_setting_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(
        monkeypatch,
        NEEDED | {"GEOFIX_MAX_BATCH": "7", "GEOFIX_DRAIN_S": "0.5", "GEOFIX_LOG_LEVEL": "DEBUG", "GEOFIX_THREADS": "2"},
    )
    assert (found.listen, found.bundle) == ("127.0.0.1:50051", Path("bundles/orbit"))
    assert (found.max_batch, found.drain_s, found.log_level, found.threads) == (7, 0.5, "DEBUG", 2)


def test_what_is_not_set_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, NEEDED)
    assert found.max_batch == 32
    assert found.placement == Placement(("CPUExecutionProvider",), 0, ())
    assert found.image_limits == ImageLimits(20 * 1024 * 1024, 50_000_000)


def test_the_limits_on_an_image_are_those_that_were_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, NEEDED | {"GEOFIX_MAX_IMAGE_BYTES": "5", "GEOFIX_MAX_IMAGE_PIXELS": "6"})
    assert found.image_limits == ImageLimits(max_bytes=5, max_pixels=6)


def test_providers_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, NEEDED | {"GEOFIX_PROVIDERS": "CUDAExecutionProvider,CPUExecutionProvider"})
    assert found.placement.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_batch_sizes_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, NEEDED | {"GEOFIX_BATCH_SIZES": "8,1,4"}).placement.sizes == (1, 4, 8)


def test_settings_of_other_services_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        read(monkeypatch, NEEDED | {"GEOFIX_REDIS_URL": "redis://x", "GEOFIX_SEARCH_CONCURRENCY": "1"}).max_batch == 32
    )


def test_all_that_is_missing_is_named_at_once_with_its_purpose() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ServiceSettings.from_environment()
    assert caught.value.message.splitlines() == [
        "GEOFIX_LISTEN is not set (host:port to serve gRPC on, such as 0.0.0.0:50051)",
        "GEOFIX_BUNDLE is not set (directory of the bundle to serve)",
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GEOFIX_LISTEN", "50051"),
        ("GEOFIX_LISTEN", "localhost:port"),
        ("GEOFIX_MAX_BATCH", "many"),
        ("GEOFIX_MAX_BATCH", ""),
        ("GEOFIX_MAX_BATCH", "0"),
        ("GEOFIX_MAX_BATCH", "1025"),
        ("GEOFIX_MAX_IMAGE_BYTES", "-1"),
        ("GEOFIX_DEFAULT_DEADLINE_S", "0"),
        ("GEOFIX_DEFAULT_DEADLINE_S", "nan"),
        ("GEOFIX_DRAIN_S", "-0.1"),
        ("GEOFIX_LOG_LEVEL", "verbose"),
        ("GEOFIX_PROVIDERS", "CPUExecutionProvider,"),
        ("GEOFIX_THREADS", "-1"),
        ("GEOFIX_BATCH_SIZES", "0"),
        ("GEOFIX_BATCH_SIZES", "4,,8"),
    ],
)
def test_a_wrong_value_names_its_variable_and_its_purpose(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(monkeypatch, NEEDED | {variable: value})
    purpose = ModelSettings.model_fields[variable.removeprefix("GEOFIX_").lower()].description
    (line,) = caught.value.message.splitlines()
    assert line.startswith(f"{variable} is wrong ({purpose}): ")


def test_wrong_and_missing_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(monkeypatch, {"GEOFIX_BUNDLE": "b", "GEOFIX_MAX_QUEUE": "x"})
    missing, wrong = caught.value.message.splitlines()
    assert missing.startswith("GEOFIX_LISTEN is not set")
    assert wrong.startswith("GEOFIX_MAX_QUEUE is wrong")


def test_settings_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(monkeypatch, NEEDED)
    with pytest.raises(ValidationError, match="frozen"):
        found.max_batch = 5  # type: ignore[misc]
