"""SECURITY.md names tests that exist, and what it says of pickle holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LOADERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_every_test_that_it_names_exists() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8
    for row in rows:
        found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert found, row
        for file, name in found:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"


def test_nothing_loads_pickle() -> None:
    sources = [path for folder in ("shared", "services", "training") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 150
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in _LOADERS, path
            if isinstance(node, ast.Call):
                _check_call(node, path)


def _check_call(node: ast.Call, path: Path) -> None:
    """torch.load reads weights only; numpy reads no objects."""
    called = ast.unparse(node.func)
    assert called.partition(".")[0] not in _LOADERS, f"{path}:{node.lineno}"  # naming its errors is harmless
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called == "torch.load":
        assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
    assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
