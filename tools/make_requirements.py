"""What each image installs, with hashes: requirements/<service>-<variant>.txt out of requirements/lock.txt, without a network.

The lock is one resolution of all that serves: `make lock` makes it with pip-compile, which notes beside each package what asked
for it. A service's list is what can be reached in those notes from its own extras.

    python tools/make_requirements.py            # write the lists
    python tools/make_requirements.py --check    # say which are not current; exit code 1 if any
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = {
    "classifier-cpu": ("classifier", "cpu"),
    "classifier-gpu": ("classifier", "gpu"),
    "classifier-openvino": ("classifier", "openvino"),
    "embedder-cpu": ("embedder", "cpu"),
    "embedder-gpu": ("embedder", "gpu"),
    "retrieval-cpu": ("retrieval", "lite"),
    "gateway-cpu": ("gateway",),
    "web-cpu": ("web",),
}
"""Image -> its extras; each also has metrics and otel."""
OBSERVED = ("metrics", "otel")

_PACKAGE = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==\S+.*(?:\n(?!\S).*)*", re.MULTILINE)
_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[([^\]]*)\])?")


def normal(name: str) -> str:
    """A package's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def roots(extras: tuple[str, ...], project: dict[str, object]) -> set[str]:
    """The packages that pyproject.toml itself names for these extras and the base."""
    optional = project["optional-dependencies"]
    assert isinstance(optional, dict)
    wanted, found, seen = [*project["dependencies"]], set(), set()  # type: ignore[misc]
    for extra in extras:
        wanted += optional[extra]
    for requirement in wanted:  # grows on the way
        match = _NAME.match(requirement)
        assert match is not None, requirement
        name, inner = normal(match[1]), match[2] or ""
        if name != "geofix":
            found.add(name)
            continue
        for extra in (each.strip() for each in inner.split(",")):
            if extra not in seen:
                seen.add(extra)
                wanted += optional[extra]
    return found


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """Package -> (its lines without the notes, what asked for it)."""
    found = {}
    for match in _PACKAGE.finditer(lock):
        lines = match[0].rstrip().splitlines()
        notes = " ".join(
            line.strip().lstrip("#").removeprefix(" via") for line in lines if line.strip().startswith("#")
        )
        kept = [line for line in lines if not line.strip().startswith("#")]
        found[normal(match["name"])] = ("\n".join(kept), {normal(word) for word in notes.split()})
    return found


def requirements(extras: tuple[str, ...], lock: str, project: dict[str, object]) -> str:
    """The list of an image.

    Raises:
        SystemExit: the lock lacks a package that pyproject.toml names.
    """
    known = entries(lock)
    chosen = roots((*extras, *OBSERVED), project)
    missing = sorted(chosen - known.keys())
    if missing:
        raise SystemExit(f"requirements/lock.txt lacks {', '.join(missing)}: make lock")
    # The other ONNX Runtime asks for the same packages; it is in the lock, but not in this image.
    while more := {name for name, (_, why) in known.items() if why & chosen} - chosen:
        chosen |= more
    return "\n".join(known[name][0] for name in sorted(chosen)) + "\n"


def main() -> int:
    """Write or check every list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements/lock.txt").read_text()
    stale = []
    for image, extras in IMAGES.items():
        path = ROOT / f"requirements/{image}.txt"
        text = requirements(extras, lock, project)
        if path.is_file() and path.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(path.name)
        else:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)}: {text.count('==')} packages")
    if stale:
        print(
            f"not current: {', '.join(stale)}; run python tools/make_requirements.py, and make lock after new dependencies"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
