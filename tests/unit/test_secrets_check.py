"""What the scan for secrets finds, and what it lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_secrets import secrets_in


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("key = 'AKIA" + "IOSFODNN7EXAMPLA'", "AWS Access Key"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("url = 'redis://:" + "hunter2@cache:6379/0'", ""),
        ("url = 'https://museum:" + "hunter2@example.org/'", "Basic Auth Credentials"),
        ("token = 'ghp_" + "a" * 36 + "'", "GitHub Token"),
        ("sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'", ""),
    ],
)
def test_a_secret_is_found_by_its_kind_and_a_hash_is_none(tmp_path: Path, line: str, kind: str) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"nothing = 1\n{line}\n")
    assert secrets_in([file]) == ([f"{file}:2: {kind}"] if kind else [])
    file.write_text(f"{line}  # pragma: allowlist secret\n")
    assert secrets_in([file]) == []
