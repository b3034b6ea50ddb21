"""The services as processes: what they need to start, and how they say what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from geofix.errors import ConfigurationError
from geofix_gateway.service import GatewayService
from geofix_gateway.settings import GatewaySettings
from platforms import clean_environment

COMMON = {"GEOFIX_LISTEN", "GEOFIX_BUNDLE"}
REQUIRED = {
    "classifier": COMMON,
    "embedder": COMMON,
    "retrieval": COMMON | {"GEOFIX_MILVUS_URI"},
    "gateway": COMMON | {"GEOFIX_CLASSIFIER_ADDR", "GEOFIX_EMBEDDER_ADDR", "GEOFIX_RETRIEVAL_ADDR", "GEOFIX_REDIS_URL"},
}
GOOD = {
    "GEOFIX_LISTEN": "127.0.0.1:0",
    "GEOFIX_BUNDLE": "/nowhere",
    "GEOFIX_MILVUS_URI": "http://127.0.0.1:1",
    "GEOFIX_CLASSIFIER_ADDR": "127.0.0.1:1",
    "GEOFIX_EMBEDDER_ADDR": "127.0.0.1:1",
    "GEOFIX_RETRIEVAL_ADDR": "127.0.0.1:1",
    "GEOFIX_REDIS_URL": "redis://127.0.0.1:1/0",
}


def start(service: str, settings: dict[str, str]) -> tuple[int, str]:
    """Exit code and standard error of a service that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", f"geofix_{service}"],
        env=clean_environment() | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("service", REQUIRED)
def test_without_settings_it_exits_2_and_names_each(service: str) -> None:
    code, errors = start(service, {})
    assert code == 2
    lines = errors.splitlines()
    assert {line.split()[0] for line in lines} == REQUIRED[service]
    assert all(" is not set (" in line for line in lines)  # and what it is for


@pytest.mark.parametrize("service", REQUIRED)
def test_a_wrong_setting_is_told_from_a_missing_one(service: str) -> None:
    code, errors = start(service, GOOD | {"GEOFIX_MAX_BATCH": "0", "GEOFIX_LISTEN": "here"})
    assert code == 2
    assert {line.split(" (")[0] for line in errors.splitlines()} == {
        "GEOFIX_LISTEN is wrong",
        "GEOFIX_MAX_BATCH is wrong",
    }


@pytest.mark.parametrize("service", REQUIRED)
def test_a_typo_in_a_manifest_ends_it_with_the_name_that_was_meant(service: str) -> None:
    code, errors = start(service, GOOD | {"GEOFIX_MAX_QUEU": "3"})
    assert (code, errors) == (2, "GEOFIX_MAX_QUEU is not a setting: did you mean GEOFIX_MAX_QUEUE?\n")


@pytest.mark.parametrize("missing", sorted(REQUIRED["gateway"]))
def test_each_missing_setting_of_the_gateway_is_named_alone(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    assert GatewaySettings.from_environment().classifier_addr == "127.0.0.1:1"
    monkeypatch.delenv(missing)
    with pytest.raises(ConfigurationError) as raised:
        GatewaySettings.from_environment()
    (line,) = raised.value.message.splitlines()
    assert line.startswith(f"{missing} is not set (")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "http://127.0.0.1:6379"),
        ("redis_url", ""),
        ("classifier_addr", ""),
        ("cache_ttl_s", "0"),
        ("cache_timeout_s", "0"),
        ("gallery_poll_s", "-1"),
        ("default_deadline_s", "0"),
        ("log_level", "LOUD"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known, good in (GOOD | {f"GEOFIX_{name.upper()}": value}).items():
        monkeypatch.setenv(known, good)
    with pytest.raises(ConfigurationError, match=f"GEOFIX_{name.upper()} is wrong"):
        GatewaySettings.from_environment()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:port/0", "redis://127.0.0.1:99999999/0"])
def test_a_url_that_redis_cannot_read_is_refused_at_once(url: str, tmp_path: Path) -> None:
    settings = GatewaySettings(
        listen="127.0.0.1:0",
        bundle=tmp_path,
        classifier_addr="a:1",
        embedder_addr="a:2",
        retrieval_addr="a:3",
        redis_url=url,
    )
    with pytest.raises(ConfigurationError, match="GEOFIX_REDIS_URL"):
        GatewayService(settings)


def test_a_port_that_is_taken_is_named() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = start("gateway", GOOD | {"GEOFIX_LISTEN": address})
    assert code == 2
    assert "GEOFIX_LISTEN" in errors
    assert address in errors
    assert "Traceback" not in errors
