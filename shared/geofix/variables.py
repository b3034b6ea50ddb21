"""Which `GEOFIX_*` variables there are, so that a misspelt one is refused by name instead of silently left out.

All services may share one environment (`geofix up`, one `.env` file), so what any of them reads is known to all. The settings
classes are the list: those of every installed package `geofix_<service>` that has a module `settings`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterable, Mapping
from functools import cache

from pydantic import BaseModel

PREFIX = "GEOFIX_"
OF_COMMANDS = frozenset(
    {
        "GEOFIX_ADMIN_ADDR",
        "GEOFIX_DATA_DIR",
        "GEOFIX_METRICS",
        "GEOFIX_SERVER",
        "GEOFIX_TLS_CA",
        "GEOFIX_TLS_CERT",
        "GEOFIX_TLS_KEY",
        "GEOFIX_TOKEN",
        "GEOFIX_TRAIN_OPENVINO",
    }
)
"""Variables that the commands read beside those of the services."""
OF_TESTS = "GEOFIX_TEST_"
"""How the variables of the project's own tests begin; services pass them over."""

# What Kubernetes adds to a container for each Service of its namespace, such as GEOFIX_GATEWAY_SERVICE_HOST.
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")


def known_variables(base: type[BaseModel]) -> frozenset[str]:
    """Every variable that something here reads: the fields of `base` and of all its subclasses, and the commands."""
    _import_settings()
    return OF_COMMANDS | {f"{PREFIX}{name.upper()}" for cls in _family(base) for name in cls.model_fields}


def explain_unknown(environment: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """One line for each variable of ours that nothing reads, with the nearest name that something does."""
    names = sorted(known)
    return [
        _explain(name, value, names)
        for name, value in sorted(environment.items())
        if name.upper().startswith(PREFIX) and not name.upper().startswith(OF_TESTS) and name.upper() not in names
    ]


def _explain(name: str, value: str, names: list[str]) -> str:
    if _SERVICE_LINK.search(name) or (name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))):
        return f"{name} is not a setting but a link that Kubernetes adds: set `enableServiceLinks: false` in the pod's spec"
    near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.75)
    return f"{name} is not a setting: " + (f"did you mean {near[0]}?" if near else "docs/settings.md lists them")


@cache
def _import_settings() -> None:
    for module in pkgutil.iter_modules():
        if module.ispkg and module.name.startswith("geofix_") and importlib.util.find_spec(f"{module.name}.settings"):
            importlib.import_module(f"{module.name}.settings")


def _family(base: type[BaseModel]) -> set[type[BaseModel]]:
    return {base}.union(*(_family(cls) for cls in base.__subclasses__()))
