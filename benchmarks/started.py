"""The platform that a benchmark measures: one of its own, started here, or one that runs on this machine already."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from driver import loopback
from geofix.platform import Platform

__all__ = ["Platform", "address", "default_bundle", "environment", "platform"]

ROOT = Path(__file__).parents[1]


def default_bundle() -> Path:
    """`$GEOFIX_BUNDLE`, else bundles/orbit."""
    return Path(os.environ.get("GEOFIX_BUNDLE") or ROOT / "bundles" / "orbit")


@contextlib.contextmanager
def platform(
    bundle: Path, settings: Mapping[str, str] | None = None, data_dir: Path | None = None
) -> Iterator[Platform]:
    """A platform with its data in `data_dir`, or in a directory that is removed afterwards; `settings` are GEOFIX_* variables."""
    with contextlib.ExitStack() as stack:
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geofix-benchmark-")))
        stack.enter_context(environment(settings or {}))
        yield stack.enter_context(Platform(bundle, directory))


@contextlib.contextmanager
def address(given: str | None, bundle: Path) -> Iterator[str]:
    """The address that was given, which must be on the loopback interface, or that of a platform started for this."""
    if given:
        yield loopback(given)
    else:
        with platform(bundle) as started:
            yield started.address


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """These environment variables, and the old ones again afterwards."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
