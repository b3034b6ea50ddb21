"""What the licence check lets pass and what it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def check() -> ModuleType:
    path = Path(__file__).parents[2] / "tools/check_licences.py"
    spec = importlib.util.spec_from_file_location("check_licences", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", True),
        ("MIT AND GPL-3.0-only", False),
        ("GNU Affero General Public License v3", False),
        ("MPL-2.0 AND MIT", False),
        ("", False),
    ],
)
def test_expressions(check: ModuleType, licence: str, permissive: bool) -> None:
    assert check.is_permissive(licence) is permissive


def test_every_exception_has_a_reason(check: ModuleType) -> None:
    assert all(len(reason) > 15 for reason in check.EXCEPTIONS.values())
