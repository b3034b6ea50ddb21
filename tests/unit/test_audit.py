"""What the audit says of what pip-audit reports."""

from __future__ import annotations

from audit import outcome

GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "GHSA-x", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def test_what_was_not_audited_is_never_called_good() -> None:
    assert outcome({"dependencies": [GOOD]}) == (0, ["1 packages, no known vulnerability"])
    assert outcome({"dependencies": [GOOD, BAD, SKIPPED]}) == (1, ["b 2: GHSA-x, mended in 3"])
    code, (line,) = outcome({"dependencies": [GOOD, SKIPPED]})
    assert (code, line) == (3, "NOT AUDITED: 1 of 2 packages, such as c: Dependency not found on PyPI")
