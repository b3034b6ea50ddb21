"""Manifests as Kubernetes would get them, and the settings that their containers would read."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from geofix.settings import Settings
from geofix_classifier.settings import ClassifierSettings
from geofix_embedder.settings import EmbedderSettings
from geofix_gateway.settings import GatewaySettings
from geofix_retrieval.settings import RetrievalSettings
from geofix_web.settings import WebSettings

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
SETTINGS: dict[str, type[Settings]] = {
    "classifier": ClassifierSettings,
    "embedder": EmbedderSettings,
    "retrieval": RetrievalSettings,
    "gateway": GatewaySettings,
    "web": WebSettings,
}
Manifest = dict[str, Any]
KUBECTL = str(Path(sys.executable).with_name("kubectl"))


def build(directory: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a directory."""
    done = subprocess.run(
        [KUBECTL, "kustomize", str(directory)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def combine(overlay: str, components: tuple[str, ...], directory: Path) -> list[Manifest]:
    """An overlay with components on top."""
    directory.mkdir(parents=True, exist_ok=True)
    up = Path(os.path.relpath(K8S, directory))
    text = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(up / "overlays" / overlay)],
        "components": [str(up / "components" / name) for name in components],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return build(directory)


@functools.cache
def overlay(name: str) -> tuple[Manifest, ...]:
    """An overlay as it is shipped."""
    return tuple(build(K8S / "overlays" / name))


def named(manifests: tuple[Manifest, ...] | list[Manifest], kind: str, name: str) -> Manifest:
    """The one object of a kind and name."""
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(manifests: tuple[Manifest, ...] | list[Manifest]) -> dict[str, Manifest]:
    """Pod specs by the name of their Deployment or Job."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in manifests
        if each["kind"] in ("Deployment", "Job", "StatefulSet")
    }


def container(pod: Manifest) -> Manifest:
    """The container that serves."""
    found: Manifest = pod["containers"][0]
    return found


def environment(manifests: tuple[Manifest, ...] | list[Manifest], of: Manifest) -> dict[str, str]:
    """The variables that a container gets."""
    found: dict[str, str] = {}
    maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    for source in of.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    for each in of.get("env", []):
        found[each["name"]] = each["value"]
    return found
