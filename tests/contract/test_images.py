"""Requirement lists, the Dockerfile and compose files agree with the project."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from make_requirements import IMAGES, entries, normal

from contract.rendered import ROOT, SETTINGS
from geofix.probe import HEALTH_NAMES, is_ready
from geofix.settings import ServiceSettings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_lists_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "tools/make_requirements.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_installs_what_was_tested_by_its_hash_and_no_torch(image: str) -> None:
    text = (ROOT / f"requirements/{image}.txt").read_text()
    tested = {
        normal(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    }
    for name, (lines, _) in entries(text).items():
        assert "--hash=sha256:" in lines, name
        pinned = re.match(r"\S+==(\S+)", lines)
        assert pinned is not None
        assert pinned[1] == tested.get(name, pinned[1]), name
    assert not entries(text).keys() & {"torch", "torchvision", "timm", "pip", "setuptools", "pytest"}
    assert ("onnxruntime-gpu" in entries(text)) == image.endswith("-gpu")
    assert ("openvino" in entries(text)) == image.endswith("-openvino")


def test_every_service_has_an_image_a_compose_service_and_a_health_check() -> None:
    assert {name.removesuffix("-cpu") for name in IMAGES if name.endswith("-cpu")} == set(SETTINGS)
    assert set(HEALTH_NAMES) | {"web"} == set(SETTINGS)
    for service in SETTINGS:
        spec = COMPOSE["services"][service]
        assert spec["build"]["args"]["SERVICE"] == service
        assert spec["read_only"] is True
        assert spec["cap_drop"] == ["ALL"]
        assert spec["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert "geofix.probe" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("service", SETTINGS)
def test_compose_sets_what_a_service_needs_and_nothing_else(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("GEOFIX_")]:
        monkeypatch.delenv(name)
    given = {
        name: re.sub(r"\$\{\w+:-?([^}]*)\}", r"\1", str(value))
        for name, value in COMPOSE["services"][service]["environment"].items()
    }
    for name, value in ({"GEOFIX_BUNDLE": "/bundle"} | given).items():
        monkeypatch.setenv(name, value)
    settings = SETTINGS[service].from_environment()
    assert {name for name in given if name.startswith("GEOFIX_")} <= {
        f"GEOFIX_{field.upper()}" for field in type(settings).model_fields
    }
    drain = getattr(settings, "drain_delay_s", 0.0) + settings.drain_s  # type: ignore[attr-defined]
    assert int(COMPOSE["services"][service]["stop_grace_period"].removesuffix("s")) > drain
    if isinstance(settings, ServiceSettings):
        assert settings.listen == "0.0.0.0:50051"


def test_the_probe_says_no_where_nothing_listens() -> None:
    for service in SETTINGS:
        assert is_ready({"SERVICE": service, "GEOFIX_LISTEN": "0.0.0.0:1"}) is False
