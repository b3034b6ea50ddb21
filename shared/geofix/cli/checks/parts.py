"""What is installed: packages and their versions, the ONNX Runtime build, the bundle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from geofix.cli.checks.finding import Finding, Place, good, note, wrong
from geofix.errors import GeofixError

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
"""Builds of ONNX Runtime; they share one folder, so that two of them spoil each other."""
SERVING = "up"


def parts(place: Place) -> Iterator[Finding]:
    """All of them."""
    yield settings(os.environ)
    yield packages(set(_required(SERVING)) - set(_required("")), "serving")
    installed = [name for name in RUNTIMES if _version(name)]
    yield runtime(installed)
    if installed:
        yield providers(place.providers, _available_providers())
    yield bundle(place)


def settings(environment: Mapping[str, str]) -> Finding:
    """Whether every GEOFIX_* variable is one that something reads."""
    from geofix.settings import Settings
    from geofix.variables import PREFIX, explain_unknown, known_variables

    unknown = explain_unknown(environment, known_variables(Settings))
    if unknown:
        return wrong("settings", "; ".join(unknown), "correct or unset it: the services refuse to start with it")
    return good("settings", f"{sum(name.startswith(PREFIX) for name in environment)} GEOFIX_* variables are set")


def packages(needed: Iterable[str], what: str) -> Finding:
    """Whether the packages (as requirements, such as `redis>=8`) are here in versions that go together."""
    from packaging.requirements import Requirement

    name, remedy = f"packages for {what}", "pip install 'geofix[up,cpu]'"
    wanted = [Requirement(text) for text in needed]
    versions = {requirement.name: _version(requirement.name) for requirement in wanted}
    missing = sorted(package for package, version in versions.items() if version is None)
    old = [
        f"{r.name} {v} (needs {r.specifier})" for r in wanted if (v := versions[r.name]) and not r.specifier.contains(v)
    ]
    if missing and len(missing) == len(versions):
        return note(name, "none is here: this is the client alone", remedy)
    if missing or old:
        says = "; ".join([f"missing: {', '.join(missing)}"] * bool(missing) + old)
        return wrong(name, says, remedy)
    return good(name, f"{len(versions)} are here")


def runtime(installed: list[str]) -> Finding:
    """Whether exactly one build of ONNX Runtime is here."""
    if len(installed) > 1:
        return wrong(
            "ONNX Runtime",
            f"{' and '.join(installed)} are both installed, into one folder",
            f"pip uninstall {' '.join(installed)}, then pip install the one that you want",
        )
    if not installed:
        return note("ONNX Runtime", "no build of it is here", "pip install 'geofix[up,cpu]' or 'geofix[up,gpu]'")
    return good("ONNX Runtime", f"{installed[0]} {_version(installed[0])}")


def providers(asked: Iterable[str], available: Iterable[str]) -> Finding:
    """Whether this build has the execution providers that were asked for."""
    missing = [name for name in asked if name not in set(available)]
    if missing:
        return wrong(
            "execution providers",
            f"GEOFIX_PROVIDERS asks for {', '.join(missing)}; this build has {', '.join(available)}",
            "install what has it (pip install 'geofix[gpu]' for CUDA, 'geofix[openvino]' for OpenVINO), or leave "
            "GEOFIX_PROVIDERS unset for the CPU",
        )
    return good("execution providers", ", ".join(asked))


def bundle(place: Place) -> Finding:
    """Whether the bundle is there and its files have the hashes that it states."""
    from geofix.bundle import MANIFEST, Bundle

    if not place.bundle_named and not (place.bundle / MANIFEST).is_file():
        return note("bundle", f"there is none at {place.bundle}", "name one with --bundle or $GEOFIX_BUNDLE")
    try:
        found = Bundle.load(place.bundle)
    except GeofixError as error:
        return wrong("bundle", error.message, "copy the bundle again, or name another with --bundle")
    return good("bundle", f"{found.version} at {place.bundle}, all {len(found.manifest.files)} hashes as stated")


def _required(extra: str, seen: Mapping[str, None] | None = None) -> Iterator[str]:
    """The requirements of geofix with an extra, those of the extras that it names included."""
    from packaging.requirements import Requirement

    for text in metadata.requires("geofix") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "geofix":
            for other in requirement.extras:
                if other != extra and other not in (seen or {}):
                    yield from _required(other, {**(seen or {}), extra: None})
        else:
            requirement.marker = None
            yield str(requirement)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _available_providers() -> list[str]:
    import onnxruntime

    from geofix.openvino_model import openvino_providers

    return [*onnxruntime.get_available_providers(), *openvino_providers()]
